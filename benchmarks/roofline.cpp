// What this machine can do at most: multiply-adds from registers, and bytes from memory of a given size.

#include <vector>

#include "../src/brodmann/kernels/numbers.h"
#include "../src/brodmann/kernels/threads.h"

namespace {

// Calls body(thread), which returns a number, on every thread; returns their sum: what is not used is not computed.
template <class Body>
double total(int64_t threads, const Body& body) {
  std::vector<double> results(threads);
  team(INT64_MAX, int(threads), [&](int thread) { results[thread] = body(thread); });
  double sum = 0;
  for (double result : results) sum += result;
  return sum;
}

}  // namespace

extern "C" {

// Operations of one round of `multiply_add`: a tile of sums is enough to hide the latency and fits into the registers.
int64_t operations() { return 2 * kRows * kVectors * Lanes<float>::count; }

// `rounds` multiply-adds of every sum in each thread.
double multiply_add(int64_t threads, int64_t rounds) {
  return total(threads, [&](int thread) {
    double result = 0;
    Vector<float> sums[kRows][kVectors], factor;
    for (int64_t lane = 0; lane < Lanes<float>::count; ++lane) factor[lane] = 0.5f + 1e-3f * float(lane + thread);
    UNROLLED for (int64_t r = 0; r < kRows; ++r) {  // all different: equal ones would be one
      UNROLLED for (int64_t v = 0; v < kVectors; ++v) sums[r][v] = factor + float(r * kVectors + v);
    }
    for (int64_t round = 0; round < rounds; ++round) {
      UNROLLED for (int64_t r = 0; r < kRows; ++r) {
        UNROLLED for (int64_t v = 0; v < kVectors; ++v) sums[r][v] = sums[r][v] * factor + factor;
      }
    }
    UNROLLED for (int64_t r = 0; r < kRows; ++r) {
      UNROLLED for (int64_t v = 0; v < kVectors; ++v) result += sums[r][v][0];
    }
    return result;
  });
}

// Reads `count` floats, each thread its own stretch.
double read_floats(int64_t threads, const float* values, int64_t count) {
  return total(threads, [&](int thread) {
    double result = 0;
    constexpr int64_t lanes = Lanes<float>::count, block = 8 * lanes;
    Vector<float> sums[8] = {};
    const int64_t begin = count * thread / threads / block * block, end = count * (thread + 1) / threads / block * block;
    for (int64_t i = begin; i < end; i += block) {
      for (int k = 0; k < 8; ++k) sums[k] += load(values + i + k * lanes);
    }
    for (int k = 0; k < 8; ++k) result += sums[k][0];
    return result;
  });
}

// Reads and writes `count` floats in place, each thread its own stretch.
void update_floats(int64_t threads, float* values, int64_t count, float factor) {
  team(INT64_MAX, int(threads), [&](int thread) {
    const int64_t begin = count * thread / threads, end = count * (thread + 1) / threads;
    for (int64_t i = begin; i < end; ++i) values[i] *= factor;
  });
}
}
