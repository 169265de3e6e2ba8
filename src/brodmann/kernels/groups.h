// The rows of a batch by area, and the tiles that threads share out among themselves.

#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#ifdef __SANITIZE_THREAD__
#include <atomic>
#include <thread>
#endif

namespace {

constexpr int64_t kRows = 6;         // rows of a register tile
constexpr int64_t kVectors = 4;      // its vectors along the inputs, or the outputs
constexpr int64_t kSmall = 1 << 15;  // multiply-adds below which one thread is faster than waking the others

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

struct Item {
  int64_t group, begin, end;
};

// Cuts every group's `extent` into tiles of about equal work, multiples of `step(rows)`.
template <class Step>
std::vector<Item> cut(const Groups& groups, int64_t extent, int64_t other, const Step& step, int threads) {
  constexpr int64_t kTouch = 4;  // reading a weight once costs about as much as multiplying it by this many rows
  int64_t work = 0;
  for (int64_t group = 0; group < groups.count; ++group) work += (groups.rows(group) + kTouch) * extent * other;
  const int64_t share = std::max<int64_t>(work / (threads * 8), 1);
  std::vector<Item> items;
  for (int64_t group = 0; group < groups.count; ++group) {
    const int64_t wanted = share / ((groups.rows(group) + kTouch) * other) + 1;
    const int64_t unit = step(groups.rows(group)), size = (wanted + unit - 1) / unit * unit;
    for (int64_t begin = 0; begin < extent; begin += size) {
      items.push_back({group, begin, std::min(begin + size, extent)});
    }
  }
  return items;
}

// Calls body(position, height) for tiles of a group's rows, `most` high at most and equally high: 9 rows are 4 + 5, not
// 8 + 1. The tile's rows are groups.row(position) .. groups.row(position + height - 1).
template <class Body>
inline void each_tile(const Groups& groups, int64_t group, int64_t most, const Body& body) {
  const int64_t first = groups.bounds[group], rows = groups.rows(group), tiles = (rows + most - 1) / most;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t begin = rows * tile / tiles;
    body(first + begin, rows * (tile + 1) / tiles - begin);
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

// Calls body(0) .. body(count - 1), whichever thread is free the next; `work` counts the multiply-adds of all.
template <class Body>
void each(int64_t count, int64_t work, int threads, const Body& body) {
#ifdef __SANITIZE_THREAD__  // which cannot see how OpenMP's threads wait for each other
  std::atomic<int64_t> next{0};
  std::vector<std::thread> team;
  for (int thread = 0; thread < threads; ++thread) {
    team.emplace_back([&] {
      for (int64_t index; (index = next++) < count;) body(index);
    });
  }
  for (auto& thread : team) thread.join();
#else
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (work > kSmall)
  for (int64_t index = 0; index < count; ++index) body(index);
#endif
}

template <class Body>
void each(const std::vector<Item>& items, int64_t work, int threads, const Body& body) {
  each(int64_t(items.size()), work, threads, [&](int64_t index) { body(items[index]); });
}

}  // namespace
