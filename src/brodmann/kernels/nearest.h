// Nearest prototype: cell[r] = argmax over m of u[r] . prototypes[m], the first of equals. No product is ever stored.

#pragma once

#include <limits>
#include <vector>

#include "forward.h"
#include "numbers.h"
#include "shares.h"

namespace {

// The largest product that each lane has met, and its cell.
template <class C>
struct Best {
  using Cells = decltype(Vector<C>{} > Vector<C>{});  // integers as wide as C

  Vector<C> value = everywhere(-std::numeric_limits<C>::infinity());
  Cells cell = {};

  void meet(const Vector<C>& other, const Cells& others) {  // who was first stays
    const auto better = other > value;
    value = better ? other : value;
    cell = better ? others : cell;
  }

  int64_t winner() const {
    int64_t first = 0;
    for (int64_t lane = 1; lane < Lanes<C>::count; ++lane) {
      if (value[lane] > value[first] || (value[lane] == value[first] && cell[lane] < cell[first])) first = lane;
    }
    return cell[first];
  }
};

// Meets R rows with a block of V vectors of prototypes, packed (dimension, V vectors), whose first is `first`.
template <int R, int V, class C>
__attribute__((noinline)) void nearest_tile(const C* u, const C* packed, int64_t dimension, int64_t first,
                                            Best<C>* best) {
  constexpr int64_t lanes = Lanes<C>::count;
  Vector<C> sums[R][V] = {};
  for (int64_t d = 0; d < dimension; ++d) {
    Vector<C> w[V];
    UNROLLED for (int v = 0; v < V; ++v) w[v] = load(packed + (d * V + v) * lanes);
    UNROLLED for (int r = 0; r < R; ++r) {
      const auto value = everywhere(u[r * dimension + d]);
      UNROLLED for (int v = 0; v < V; ++v) multiply_add(sums[r][v], value, w[v]);
    }
  }
  for (int v = 0; v < V; ++v) {
    typename Best<C>::Cells cells;
    for (int64_t lane = 0; lane < lanes; ++lane) cells[lane] = first + v * lanes + lane;
    for (int r = 0; r < R; ++r) best[r].meet(sums[r][v], cells);
  }
}

// u (rows, dimension), prototypes (cells, dimension), cell (rows). Every thread meets all rows with its own prototypes.
template <class C>
void nearest(int threads, int64_t rows, int64_t cells, int64_t dimension, const C* u, const C* prototypes,
             int64_t* cell) {
  constexpr int64_t lanes = Lanes<C>::count, block = kVectors * lanes;
  const int64_t blocks = tiles_of(cells, block);
  std::vector<Best<C>> best(threads * rows);
  team(rows * cells * dimension, threads, [&](int thread) {
    std::vector<C> packed(block * dimension), rest(block * dimension);
    Best<C>* own = best.data() + thread * rows;
    for (int64_t at = blocks * thread / threads; at < blocks * (thread + 1) / threads; ++at) {
      const int64_t first = at * block, here = std::min(block, cells - first);
      const C* from = prototypes + first * dimension;
      if (here < block) {  // filled up with copies of its first, which is met before them
        for (int64_t k = 0; k < block; ++k) {
          std::copy_n(from + (k < here ? k : 0) * dimension, dimension, rest.data() + k * dimension);
        }
        from = rest.data();
      }
      for (int64_t v = 0; v < kVectors; ++v) {
        pack(from + v * lanes * dimension, dimension, dimension, packed.data() + v * lanes, block);
      }
      for (int64_t row = 0; row < rows; row += kRows) {
        as_constant<kRows>(rows - row, [&](auto height) {
          nearest_tile<height, kVectors>(u + row * dimension, packed.data(), dimension, first, own + row);
        });
      }
    }
  });
  for (int64_t row = 0; row < rows; ++row) {
    Best<C> all = best[row];
    for (int64_t thread = 1; thread < threads; ++thread) {
      all.meet(best[thread * rows + row].value, best[thread * rows + row].cell);
    }
    cell[row] = all.winner();
  }
}

}  // namespace
