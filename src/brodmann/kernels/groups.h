// The rows of a batch by area, and their tiles.

#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace {

struct Groups {
  int64_t count;
  const int64_t* present;  // (count) areas
  const int64_t* bounds;   // (count + 1)
  const int64_t* order;    // (N), or null: rows lie in order
  const int64_t* slots;    // (areas), or null: area g has slot g

  int64_t slot(int64_t group) const { return slots ? slots[present[group]] : present[group]; }
  int64_t rows(int64_t group) const { return bounds[group + 1] - bounds[group]; }
  int64_t rows() const { return bounds[count] - bounds[0]; }
  int64_t row(int64_t position) const { return order ? order[position] : position; }
};

inline int64_t tiles_of(int64_t extent, int64_t most) { return (extent + most - 1) / most; }

// Calls body(tile, begin, height) for tiles of an extent, `most` high at most and equally high: 9 is 4 + 5, not 8 + 1.
template <class Body>
inline void each_tile(int64_t extent, int64_t most, const Body& body) {
  const int64_t tiles = tiles_of(extent, most);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t begin = extent * tile / tiles;
    body(tile, begin, extent * (tile + 1) / tiles - begin);
  }
}

// Calls body(position, height) for tiles of a group's rows, groups.row(position) .. groups.row(position + height - 1).
template <class Body>
inline void each_tile(const Groups& groups, int64_t group, int64_t most, const Body& body) {
  each_tile(groups.rows(group), most, [&](int64_t, int64_t begin, int64_t height) {
    body(groups.bounds[group] + begin, height);
  });
}

// Calls body(row) for the rows of a group, in their order.
template <class Body>
inline void each_row_of(const Groups& groups, int64_t group, const Body& body) {
  for (int64_t position = groups.bounds[group]; position < groups.bounds[group + 1]; ++position) {
    body(groups.row(position));
  }
}

// Calls body with `count`, 1 to Most, as a constant that the compiler knows.
template <int Most, class Body>
inline void as_constant(int64_t count, const Body& body) {
  if constexpr (Most > 1) {
    if (count < Most) return as_constant<Most - 1>(count, body);
  }
  body(std::integral_constant<int, Most>{});
}

// Calls body(i, vectors) along begin .. end for Most vectors of `lanes` numbers at a time, then for one at a time; returns
// where less than a vector is left. The compiler knows `vectors`.
template <int Most, class Body>
__attribute__((always_inline)) inline int64_t each_vectors(int64_t begin, int64_t end, int64_t lanes,
                                                           const Body& body) {
  int64_t i = begin;
  for (; i + Most * lanes <= end; i += Most * lanes) body(i, std::integral_constant<int, Most>{});
  for (; i + lanes <= end; i += lanes) body(i, std::integral_constant<int, 1>{});
  return i;
}

}  // namespace
