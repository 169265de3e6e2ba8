// Products of many rows with blocks that lie in the first-level cache.

#pragma once

#include "groups.h"
#include "numbers.h"
#include "prefetch.h"

namespace {

// Rows of an area (or pairs of them) from which on copying a block pays. With fewer, a tile holds a number of each.
constexpr int64_t kMany = 16;
constexpr int64_t kDepth = (1 << 15) / (kVectors * kBytes);  // terms of a sum in a block: 32 KB, a first-level cache

// to[r][0 .. V vectors) += sum over i of x[r][i] block[i][0 .. V vectors), while a strip of the next block sets out.
// On its own: see dot_tile.
template <int R, int V, class C, class X, class Next>
__attribute__((noinline)) void block_tile(const X* const* x, const X* block, int64_t depth, C* const* to,
                                          Next strip) {
  constexpr int64_t lanes = Lanes<C>::count;
  Vector<C> sums[R][V];
  UNROLLED for (int r = 0; r < R; ++r) {
    UNROLLED for (int v = 0; v < V; ++v) sums[r][v] = load(to[r] + v * lanes);
  }
  for (int64_t i = 0; i < depth; ++i) {
    strip.fetch_row();
    decltype(load(block)) w[V];
    UNROLLED for (int v = 0; v < V; ++v) w[v] = load(block + (i * V + v) * lanes);
    UNROLLED for (int r = 0; r < R; ++r) {
      const auto value = everywhere(x[r][i]);
      UNROLLED for (int v = 0; v < V; ++v) multiply_add(sums[r][v], value, w[v]);
    }
  }
  UNROLLED for (int r = 0; r < R; ++r) {
    UNROLLED for (int v = 0; v < V; ++v) store(sums[r][v], to[r] + v * lanes, lanes);
  }
}

// Lays out V vectors side by side: the first `count` numbers from here on, the others zero. Returns what follows them.
template <int V, class X, class W, class Count>
inline X* lay_out(const W* from, Count count, X* block) {
  constexpr int64_t lanes = Lanes<X>::count;
  UNROLLED for (int v = 0; v < V; ++v) store(load(from + v * lanes, count - v * lanes), block + v * lanes, lanes);
  return block + V * lanes;
}

// to[row][0 .. V vectors) += sum over i < depth of x[row][i] w[i][0 .. V vectors) for all rows of a group; rows of x are
// `depth` long, those of `to` are `width`. pack(i, here, block) writes w[i .. i + here) into a block, side by side: where
// weights lie, each of its rows is in a cache line of its own, and many of those in the same few places of the cache.
// next(i) is the Block of weights that is needed once w[.. i) is done with.
template <int V, class C, class X, class Pack, class Next>
inline void add_product(const Groups& groups, int64_t group, int64_t depth, const X* x, const Pack& pack,
                        const Next& next, C* to, int64_t width) {
  alignas(64) X block[kDepth * V * Lanes<X>::count];
  for (int64_t i = 0; i < depth; i += kDepth) {
    const int64_t here = std::min(kDepth, depth - i);
    pack(i, here, block);
    const auto ahead = next(i + here);
    int64_t tile = 0;
    each_tile(groups, group, kRows, [&](int64_t position, int64_t height) {
      const X* from[kRows];
      C* sums[kRows];
      for (int64_t r = 0; r < height; ++r) {
        const int64_t row = groups.row(position + r);
        from[r] = x + row * depth + i;
        sums[r] = to + row * width;
      }
      const auto strip = ahead.strip(tile++);
      as_constant<kRows>(height, [&](auto rows) { block_tile<rows, V>(from, block, here, sums, strip); });
    });
  }
}

}  // namespace
