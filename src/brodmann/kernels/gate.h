// How a projection learns: the error of the gate at the chosen cell, carried through softmax and cosine.

#pragma once

#include <cmath>
#include <vector>

#include "forward.h"

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
void gate_down(int64_t rows, int64_t cells, int64_t dimension, const C* u, const C* prototypes, const int64_t* cell,
               const C* gate_error, C temperature, C* error) {
  std::vector<C> kept(cells);
  C* const p = kept.data();
  for (int64_t row = 0; row < rows; ++row, u += dimension, error += dimension) {
    C square = 0;
    for (int64_t d = 0; d < dimension; ++d) square += u[d] * u[d];
    const C* const chosen = prototypes + cell[row] * dimension;
    std::fill(error, error + dimension, C(0));
    if (square == 0) continue;
    const C length = std::sqrt(square);
    int64_t j = 0;
    for (; j + 4 <= cells; j += 4) dot_tile<1, 4>(&u, prototypes + j * dimension, dimension, p + j);
    for (; j < cells; ++j) dot_tile<1, 1>(&u, prototypes + j * dimension, dimension, p + j);
    const C largest = *std::max_element(p, p + cells);
    C sum = 0;
    for (j = 0; j < cells; ++j) sum += p[j] = std::exp((p[j] - largest) / length / temperature);
    for (j = 0; j < cells; ++j) {
      const C share = p[j] / sum;
      for (int64_t d = 0; d < dimension; ++d) error[d] -= share * prototypes[j * dimension + d];
    }
    C along = 0;
    for (int64_t d = 0; d < dimension; ++d) along += (error[d] += chosen[d]) * u[d];
    const C scale = gate_error[row] * (p[cell[row]] / sum) / temperature / length;
    for (int64_t d = 0; d < dimension; ++d) error[d] = scale * (error[d] - along / square * u[d]);
  }
}

}  // namespace
