// Weights that are needed soon set out while the present ones are multiplied: a core that waits for memory multiplies
// nothing.

#pragma once

#include <cstdint>

namespace {

constexpr int64_t kLine = 64;        // bytes that memory sends at once
constexpr int64_t kAhead = 8 << 10;  // bytes between the weights in use and those that set out: memory's delay

// Calls for a line. It waits in the second-level cache, since the first is full of what is in use.
inline void fetch(const void* line) { __builtin_prefetch(line, 0, 2); }

// A block of a matrix: Width numbers of each of some rows, which lie `stride` apart.
template <int64_t Width, class W>
struct Block {
  const W* begin;
  int64_t rows, stride;

  // The index-th part of it that is two lines wide; behind the last one, none of its rows.
  Block strip(int64_t index) const {
    const int64_t column = index * 2 * kLine / sizeof(W);
    return {begin + column, column < Width ? rows : 0, stride};
  }

  // Calls for the two lines of a strip's first row, which it loses.
  void fetch_row() {
    if (!rows) return;
    fetch(begin);
    fetch(begin + kLine / sizeof(W));
    begin += stride;
    --rows;
  }
};

}  // namespace
