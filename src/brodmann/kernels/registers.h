// The processor's vector registers, and the tiles of sums that fit into them.

#pragma once

#include <cstdint>

namespace {

#if defined(__AVX512F__)
constexpr int64_t kBytes = 64, kRegisters = 32;
#elif defined(__AVX__)
constexpr int64_t kBytes = 32, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int64_t kBytes = 16, kRegisters = 32;
#else
constexpr int64_t kBytes = 16, kRegisters = 16;
#endif

// Whether bfloat16 numbers are multiplied in pairs, by an instruction that not every processor with it is fast at.
#if defined(__AVX512BF16__) && !defined(BRODMANN_WITHOUT_PAIRS)
#define BRODMANN_PAIRS
#endif

// A tile holds kRows x kVectors sums; beside them the registers hold kVectors vectors of one factor and one of the
// other. A tile that is too large for them is several times as slow, since its sums go through memory.
constexpr int64_t kRows = 6;
constexpr int64_t kVectors = kRegisters == 32 ? 4 : 2;  // along the inputs, or the outputs
static_assert((kRows + 1) * kVectors + 1 <= kRegisters);

}  // namespace
