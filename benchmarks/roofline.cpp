// What this machine can do at most: multiply-adds from registers, and bytes from memory of a given size.

#include <cstdint>
#include <cstring>

namespace {
template <class C>
struct Lanes {
  typedef C Vector __attribute__((vector_size(64)));
};

// Sums of 6 x 4 vectors: enough to hide the latency, few enough for the registers.
template <class C>
double multiply_add(int64_t threads, int64_t rounds) {
  double result = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : result)
  for (int64_t thread = 0; thread < threads; ++thread) {
    typename Lanes<C>::Vector sums[6][4], factor;
    C starts[64 / sizeof(C)];
    for (uint64_t lane = 0; lane < 64 / sizeof(C); ++lane) starts[lane] = C(0.5) + C(1e-3) * C(lane + thread);
    std::memcpy(&factor, starts, sizeof factor);
    for (int r = 0; r < 6; ++r) {
      for (int v = 0; v < 4; ++v) sums[r][v] = factor + C(4 * r + v);  // all different, or one would do for all
    }
    for (int64_t round = 0; round < rounds; ++round) {
      for (int r = 0; r < 6; ++r) {
        for (int v = 0; v < 4; ++v) sums[r][v] = sums[r][v] * factor + factor;
      }
    }
    for (int r = 0; r < 6; ++r) {
      for (int v = 0; v < 4; ++v) result += sums[r][v][0];
    }
  }
  return result;
}
}  // namespace

extern "C" {

// 24 sums of `rounds` multiply-adds in each thread.
double multiply_add_float32(int64_t threads, int64_t rounds) { return multiply_add<float>(threads, rounds); }

// Reads `count` floats, each thread its own stretch.
double read_floats(int64_t threads, const float* values, int64_t count) {
  double result = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : result)
  for (int64_t thread = 0; thread < threads; ++thread) {
    typename Lanes<float>::Vector sums[8] = {};
    const int64_t begin = count * thread / threads / 128 * 128, end = count * (thread + 1) / threads / 128 * 128;
    for (int64_t i = begin; i < end; i += 128) {
      for (int k = 0; k < 8; ++k) {
        typename Lanes<float>::Vector value;
        std::memcpy(&value, values + i + 16 * k, sizeof value);
        sums[k] += value;
      }
    }
    for (int k = 0; k < 8; ++k) result += sums[k][0];
  }
  return result;
}

// Reads and writes `count` floats in place, each thread its own stretch.
void update_floats(int64_t threads, float* values, int64_t count, float factor) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int64_t thread = 0; thread < threads; ++thread) {
    const int64_t begin = count * thread / threads, end = count * (thread + 1) / threads;
    for (int64_t i = begin; i < end; ++i) values[i] *= factor;
  }
}
}
