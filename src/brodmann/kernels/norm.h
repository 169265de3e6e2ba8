// Root-mean-square norm of rows, y = s x with s = 1 / sqrt(mean(x^2) + epsilon), and how errors go down through it.

#pragma once

#include <cmath>

#include "numbers.h"
#include "threads.h"

namespace {

// Sum over i < size of a[i] b[i].
template <class C>
C inner(const C* a, const C* b, int64_t size) {
  constexpr int64_t lanes = Lanes<C>::count, sums = 4;
  Vector<C> total[sums] = {};
  int64_t i = 0;
  for (; i + sums * lanes <= size; i += sums * lanes) {
    UNROLLED for (int64_t k = 0; k < sums; ++k) {
      multiply_add(total[k], load(a + i + k * lanes), load(b + i + k * lanes));
    }
  }
  for (; i < size; i += lanes) multiply_add(total[0], load(a + i, size - i), load(b + i, size - i));
  total[0] = (total[0] + total[1]) + (total[2] + total[3]);
  C sum;
  sum_lanes<1>(total, &sum);
  return sum;
}

constexpr int64_t kOfNorm = 8;  // multiply-adds that a number takes, about

// x, y (rows, size), scale (rows).
template <class C>
void norm(int threads, int64_t rows, int64_t size, const C* x, C epsilon, C* y, C* scale) {
  constexpr int64_t lanes = Lanes<C>::count;
  each_row(threads, rows, size * kOfNorm, [&](int64_t row) {
    const C* const from = x + row * size;
    C* const to = y + row * size;
    const C s = scale[row] = C(1) / std::sqrt(inner(from, from, size) / C(size) + epsilon);
    for (int64_t i = 0; i < size; i += lanes) store(s * load(from + i, size - i), to + i, size - i);
  });
}

// below = s (e - y mean(y e)): errors e and below (rows, size).
template <class C>
void norm_down(int threads, int64_t rows, int64_t size, const C* x, const C* scale, const C* errors, C* belows) {
  constexpr int64_t lanes = Lanes<C>::count;
  each_row(threads, rows, size * kOfNorm, [&](int64_t row) {
    const C *const from = x + row * size, *const error = errors + row * size;
    C* const below = belows + row * size;
    const C s = scale[row], along = s * s * inner(from, error, size) / C(size);
    for (int64_t i = 0; i < size; i += lanes) {
      store(s * (load(error + i, size - i) - along * load(from + i, size - i)), below + i, size - i);
    }
  });
}

}  // namespace
