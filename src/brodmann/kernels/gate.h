// How a projection learns: the error of the gate at the chosen cell, carried through softmax and cosine.

#pragma once

#include <cmath>
#include <vector>

#include "exponential.h"
#include "forward.h"
#include "groups.h"
#include "numbers.h"
#include "threads.h"

namespace {

// With s_j = u . prototypes[j] / |u|, p = softmax(s / temperature) and the gate a = p[cell]:
//
//   dL/ds_j = scale (1[j = cell] - p_j), scale = dL/da a / temperature
//   dL/du   = sum_j dL/ds_j (prototypes[j] - s_j u / |u|) / |u|
//           = scale (w - (w . u / |u|) u / |u|) / |u|, w = prototypes[cell] - sum_j p_j prototypes[j]
//
// and 0 where u = 0. Prototypes have length 1. Shapes: u and error = dL/du (rows, dimension), prototypes (cells,
// dimension), cell and gate_error = dL/da (rows).
template <class C>
struct Gate {
  int64_t cells, dimension;
  const C *u, *prototypes;
  const int64_t* cell;
  const C* gate_error;
  C temperature;
  C* error;
  int64_t stride;   // cells, rounded up to whole vectors
  const C* packed;  // prototypes as columns, (dimension, stride), zeros beyond the last

  // R rows at a time, so that a vector of prototypes is loaded once for all of them. `p` has room for (R, stride).
  template <int R>
  void down(int64_t row, C* p) const {
    constexpr int64_t lanes = Lanes<C>::count;
    const C* const from = u + row * dimension;
    for (int64_t c = 0; c < stride; c += lanes) {
      Vector<C> products[R] = {};
      for (int64_t d = 0; d < dimension; ++d) {
        const auto column = load(packed + d * stride + c);
        UNROLLED for (int r = 0; r < R; ++r) multiply_add(products[r], everywhere(from[r * dimension + d]), column);
      }
      UNROLLED for (int r = 0; r < R; ++r) store(products[r], p + r * stride + c, lanes);
    }
    C square[R], scale[R], sum[R];
    for (int r = 0; r < R; ++r) {
      square[r] = dot(from + r * dimension, from + r * dimension);
      const C length = std::sqrt(square[r]), sharpness = square[r] == 0 ? C(0) : 1 / (length * temperature);
      sum[r] = exponentials(p + r * stride, sharpness);
      const C chosen = p[r * stride + cell[row + r]] / sum[r];
      scale[r] = gate_error[row + r] * chosen * sharpness;
    }
    for (int64_t d = 0; d < dimension; d += lanes) {
      Vector<C> w[R];
      UNROLLED for (int r = 0; r < R; ++r) {
        w[r] = sum[r] * load(prototypes + cell[row + r] * dimension + d, dimension - d);
      }
      for (int64_t j = 0; j < cells; ++j) {
        const auto prototype = load(prototypes + j * dimension + d, dimension - d);
        UNROLLED for (int r = 0; r < R; ++r) multiply_add(w[r], everywhere(-p[r * stride + j]), prototype);
      }
      UNROLLED for (int r = 0; r < R; ++r) {
        store(w[r] / sum[r], error + (row + r) * dimension + d, dimension - d);
      }
    }
    for (int r = 0; r < R; ++r) {
      C* const to = error + (row + r) * dimension;
      const C along = square[r] == 0 ? C(0) : dot(to, from + r * dimension) / square[r];
      for (int64_t d = 0; d < dimension; ++d) to[d] = scale[r] * (to[d] - along * from[r * dimension + d]);
    }
  }

  C dot(const C* a, const C* b) const {
    C result;
    dot_tile<1, 1>(&a, b, dimension, &result);
    return result;
  }

  // Replaces the products p of one row by e^(sharpness (p - the largest)), which it sums.
  C exponentials(C* p, C sharpness) const {
    constexpr int64_t lanes = Lanes<C>::count;
    Vector<C> sums[1] = {};
    const C largest = *std::max_element(p, p + cells);
    for (int64_t c = 0; c < stride; c += lanes) {
      store(exponential<C>(sharpness * (load(p + c) - largest)), p + c, lanes);
      sums[0] += load(p + c, cells - c);
    }
    C sum;
    sum_lanes<1>(sums, &sum);
    return sum;
  }
};

template <class C>
void gate_down(int threads, int64_t rows, int64_t cells, int64_t dimension, const C* u, const C* prototypes,
               const int64_t* cell, const C* gate_error, C temperature, C* error) {
  constexpr int64_t lanes = Lanes<C>::count;
  const int64_t stride = tiles_of(cells, lanes) * lanes, tiles = tiles_of(rows, kRows);
  std::vector<C> packed(dimension * stride);
  for (int64_t d = 0; d < dimension; ++d) {
    for (int64_t j = 0; j < cells; ++j) packed[d * stride + j] = prototypes[j * dimension + d];
  }
  const Gate<C> gate{cells, dimension, u, prototypes, cell, gate_error, temperature, error, stride, packed.data()};
  team(rows * cells * dimension, threads, [&](int thread) {
    std::vector<C> p(kRows * stride);
    for (int64_t tile = tiles * thread / threads; tile < tiles * (thread + 1) / threads; ++tile) {
      const int64_t row = tile * kRows;
      as_constant<kRows>(rows - row, [&](auto height) { gate.template down<height>(row, p.data()); });
    }
  });
}

}  // namespace
