// Products of bfloat16 numbers, where the processor has instructions for them. Rows are rounded to bfloat16, as the
// weights are, and multiplied in pairs: of inputs in the forward product, of outputs in the error, of rows in the
// gradient.

#pragma once

#include "registers.h"

#ifdef BRODMANN_PAIRS

#include <vector>

#include "error.h"
#include "forward.h"
#include "update.h"

namespace {

using Pairs = std::vector<Pair>;

inline Pairs& scratch(int which) {  // kept between calls: fresh memory would cost more than the rounding
  static thread_local Pairs kept[2];
  return kept[which];
}

// Rounds the 16 numbers from here on to the nearest bfloat16; of fewer the rest is zero.
inline __m256i rounded(const float* from, int64_t count) {
  const __m512 numbers = count >= 16 ? _mm512_loadu_ps(from) : _mm512_maskz_loadu_ps((1u << count) - 1, from);
  return (__m256i)_mm512_cvtneps_pbh(numbers);
}

// Pairs up neighbours of each row: returns (rows, ceil(width / 2)); the partner of an odd last one is zero.
const Pair* pair_neighbours(int threads, int64_t rows, int64_t width, const float* from, Pairs& to) {
  const int64_t half = (width + 1) / 2;
  to.resize(rows * half);
  deal(rows, rows * width, threads, [&](int64_t row) {
    const float* numbers = from + row * width;
    Pair* pairs = to.data() + row * half;
    for (int64_t i = 0; i < width; i += 16) {
      const __m256i words = rounded(numbers + i, width - i);
      const int64_t left = half - i / 2;
      if (left >= 8) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(pairs + i / 2), words);
      } else {
        _mm256_mask_storeu_epi32(pairs + i / 2, (1u << left) - 1, words);
      }
    }
  });
  return to.data();
}

// Pairs up the rows of each group: returns (pairs, width), the pairs of a group one after the other where `paired` says;
// the partner of an odd last row is zero.
const Pair* pair_rows(int threads, const Groups& groups, const Groups& paired, int64_t width, const float* from,
                      Pairs& to) {
  to.resize(paired.rows() * width);
  deal(groups.count, groups.rows() * width, threads, [&](int64_t group) {
    const int64_t end = groups.bounds[group + 1];
    Pair* pairs = to.data() + paired.bounds[group] * width;
    for (int64_t position = groups.bounds[group]; position < end; position += 2, pairs += width) {
      const float* first = from + groups.row(position) * width;
      const float* second = position + 1 < end ? from + groups.row(position + 1) * width : nullptr;
      for (int64_t i = 0; i < width; i += 16) {
        __m512i words = _mm512_cvtepu16_epi32(rounded(first + i, width - i));
        if (second) words |= _mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded(second + i, width - i)), 16);
        if (width - i >= 16) {
          _mm512_storeu_si512(pairs + i, words);
        } else {
          _mm512_mask_storeu_epi32(pairs + i, (1u << (width - i)) - 1, words);
        }
      }
    }
  });
  return to.data();
}

inline void forward(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const float* x,
                    const BFloat16* weights, const float* biases, const float* beside, float* out, bool relu) {
  if (inputs % 2) {  // rows of weights would begin within a pair
    forward<float>(threads, groups, inputs, outputs, x, weights, biases, beside, out, relu);
    return;
  }
  const Pair* pairs = pair_neighbours(threads, groups.rows(), inputs, x, scratch(0));
  forward(threads, groups, inputs / 2, outputs, pairs, reinterpret_cast<const Pair*>(weights), biases, beside, out,
          relu);
}

// below[r][0 .. 32 V) += sum over o of delta[r][o] weight[o][0 .. 32 V), or `width` numbers where that is fewer (V = 1).
// On its own: see dot_tile.
template <int R, int V>
__attribute__((noinline)) void error_tile_in_pairs(const Pair* const* delta, const BFloat16* weight, int64_t inputs,
                                                   int64_t outputs, int64_t width, float* const* below) {
  Vector<float> sums[R][2 * V] = {};
  const __mmask32 here = width < 32 ? (1u << width) - 1 : ~0u;
  const int64_t ahead = kAhead / int64_t(32 * V * sizeof(BFloat16)) * inputs;
  for (int64_t o = 0; o < outputs; o += 2) {
    Words w[2 * V];
    for (int v = 0; v < V; ++v) {
      const BFloat16* from = weight + o * inputs + 32 * v;
      const __m512i first = _mm512_maskz_loadu_epi16(here, from);
      const __m512i second = o + 1 < outputs ? _mm512_maskz_loadu_epi16(here, from + inputs) : __m512i{};
      fetch(from + ahead);
      fetch(from + ahead + inputs);
      w[2 * v] = (Words)_mm512_unpacklo_epi16(first, second);
      w[2 * v + 1] = (Words)_mm512_unpackhi_epi16(first, second);
    }
    for (int r = 0; r < R; ++r) {
      const Words value = everywhere(delta[r][o / 2]);
      for (int k = 0; k < 2 * V; ++k) multiply_add(sums[r][k], value, w[k]);
    }
  }
  UNROLLED for (int r = 0; r < R; ++r) {
    UNROLLED for (int v = 0; v < V; ++v) {  // pairing left the inputs in fours: 0-3, 8-11, .. and 4-7, 12-15, ..
      const auto &low = sums[r][2 * v], &high = sums[r][2 * v + 1];
      const Vector<float> in_order[2] = {
          __builtin_shufflevector(low, high, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23),
          __builtin_shufflevector(low, high, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31)};
      UNROLLED for (int k = 0; k < 2; ++k) {
        float* to = below[r] + 32 * v + 16 * k;
        const __mmask16 part = __mmask16(here >> (16 * k));
        _mm512_mask_storeu_ps(to, part, _mm512_maskz_loadu_ps(part, to) + (__m512)in_order[k]);
      }
    }
  }
}

inline void error(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const float* deltas,
                  const BFloat16* weights, float* belows, const float* relu) {
  const Pair* pairs = pair_neighbours(threads, groups.rows(), outputs, deltas, scratch(0));
  const auto shares = cut(groups, inputs, outputs, [](int64_t) { return 64; }, threads);
  work_off(shares, groups.rows() * inputs * outputs, threads, [&](const Item& item) {
    const BFloat16* weight = weights + groups.slot(item.group) * outputs * inputs;
    each_tile(groups, item.group, kRows, [&](int64_t position, int64_t height) {
      const Pair* delta[kRows];
      float* below[kRows];
      for (int64_t r = 0; r < height; ++r) {
        const int64_t row = groups.row(position + r);
        delta[r] = pairs + row * ((outputs + 1) / 2);
        below[r] = belows + row * inputs + item.begin;
      }
      for (int64_t i = item.begin; i < item.end;) {
        const int64_t left = item.end - i, width = left >= 64 ? 64 : std::min<int64_t>(left, 32);
        as_constant<kRows>(height, [&](auto rows) {
          if (width == 64) {
            error_tile_in_pairs<rows, 2>(delta, weight + i, inputs, outputs, width, below);
          } else {
            error_tile_in_pairs<rows, 1>(delta, weight + i, inputs, outputs, width, below);
          }
        });
        for (int64_t r = 0; r < height; ++r) below[r] += width;
        i += width;
      }
    });
    if (relu) silence(groups, item, inputs, relu, belows);
  });
}

inline void update(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const float* delta,
                   const float* x, const Moves<float, BFloat16>& moves) {
  std::vector<int64_t> bounds(groups.count + 1, 0);
  for (int64_t group = 0; group < groups.count; ++group) {
    bounds[group + 1] = bounds[group] + (groups.rows(group) + 1) / 2;
  }
  const Groups paired{groups.count, groups.present, bounds.data(), nullptr, groups.slots};
  const Pair* deltas = pair_rows(threads, groups, paired, outputs, delta, scratch(0));
  const Pair* xs = pair_rows(threads, groups, paired, inputs, x, scratch(1));
  update(threads, paired, inputs, outputs, deltas, xs, moves);
}

}  // namespace

#endif
