// How threads share the work. A weight belongs to a thread: the next operation on it finds it in that core's cache, where
// tiles dealt out to whoever is free would carry it from core to core. Who is done early helps the others.

#pragma once

#include <atomic>
#include <vector>

#include "groups.h"
#include "threads.h"

namespace {

constexpr int64_t kPiece = 64;       // outputs (inputs) that stay with one thread: no tile of any operation is wider

struct Item {
  int64_t group, begin, end;
};

// The items of thread t are items[bounds[t]] .. items[bounds[t + 1] - 1].
struct Shares {
  std::vector<Item> items;
  std::vector<int64_t> bounds;
};

// Cuts every group's `extent` into one piece a thread, or fewer where it is short, and those into tiles of about equal
// work, multiples of `step(rows)`, 0 for groups that are left out. Its thread depends on the slot, the extent and the
// number of threads alone.
template <class Step>
Shares cut(const Groups& groups, int64_t extent, int64_t other, const Step& step, int threads) {
  constexpr int64_t kTouch = 4;  // reading a weight once costs about as much as multiplying it by this many rows
  int64_t work = 0;
  for (int64_t group = 0; group < groups.count; ++group) work += (groups.rows(group) + kTouch) * extent * other;
  const int64_t share = std::max<int64_t>(work / (threads * 4), 1);
  const int64_t blocks = tiles_of(extent, kPiece), pieces = std::min<int64_t>(threads, blocks);
  Shares shares;
  for (int64_t thread = 0; thread < threads; ++thread) {
    shares.bounds.push_back(int64_t(shares.items.size()));
    for (int64_t group = 0; group < groups.count; ++group) {
      const int64_t first = groups.slot(group) * pieces % threads;  // the thread of the slot's first piece
      const int64_t piece = (thread - first + threads) % threads;
      if (piece >= pieces) continue;
      const int64_t wanted = share / ((groups.rows(group) + kTouch) * other) + 1;
      const int64_t unit = step(groups.rows(group));
      if (unit == 0) continue;
      const int64_t size = tiles_of(wanted, unit) * unit;
      const int64_t end = std::min(blocks * (piece + 1) / pieces * kPiece, extent);
      for (int64_t begin = blocks * piece / pieces * kPiece; begin < end; begin += size) {
        shares.items.push_back({group, begin, std::min(begin + size, end)});
      }
    }
  }
  shares.bounds.push_back(int64_t(shares.items.size()));
  return shares;
}

// Calls body(0) .. body(count - 1), whichever thread is free next.
template <class Body>
void deal(int64_t count, int64_t work, int threads, const Body& body) {
  std::atomic<int64_t> next{0};
  team(work, threads, [&](int) {
    for (int64_t index; (index = next++) < count;) body(index);
  });
}

// Calls body(item) for all items: every thread its own, then what others have left.
template <class Body>
void work_off(const Shares& shares, int64_t work, int threads, const Body& body) {
  if (shares.items.empty()) return;
  std::vector<std::atomic<int64_t>> next(threads);
  for (int thread = 0; thread < threads; ++thread) next[thread] = shares.bounds[thread];
  team(work, threads, [&](int me) {
    for (int k = 0; k < threads; ++k) {
      const int owner = (me + k) % threads;
      for (int64_t index; (index = next[owner]++) < shares.bounds[owner + 1];) body(shares.items[index]);
    }
  });
}

}  // namespace
