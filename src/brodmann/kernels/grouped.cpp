// The grouped operations over areas, for one machine's processor: forward, error down, update in place.
//
// A batch of N rows is grouped by area: group k owns the rows order[bounds[k]] .. order[bounds[k + 1] - 1] and the
// weights of slot slots[present[k]]. Rows are read where they lie; the update of many rows copies them, block
// by block, and pairs of bfloat16 are made anew. An update may leave rows out, which then come last in the order; forward
// and error may not.
//
//   x      (N, I)      input          weight  (S, O, I)   one map per slot, storage type W
//   delta  (N, O)      error at z     bias    (S, O)
//   out    (N, O)      output         below   (N, I)      error at x
//
// Without x, delta (O, I) is the gradient itself of the only group's weights.
//
// Every operation works off (group, tile) in parallel: tiles cut the outputs (forward, update) or the inputs
// (error), so a hot area is shared by all threads, and a weight is read and moved by the same one. Each result is summed
// by one thread in one order, so that no kernel's result depends on the number of threads.

#include "cells.h"
#include "error.h"
#include "forward.h"
#include "gate.h"
#include "loss.h"
#include "nearest.h"
#include "norm.h"
#include "pairs.h"
#include "update.h"

extern "C" {

// Whether products with bfloat16 weights are products of bfloat16 numbers, in pairs; else rows stay float32.
int64_t brodmann_pairs() {
#ifdef BRODMANN_PAIRS
  return 1;
#else
  return 0;
#endif
}

// Sorts the rows by area, stably, those of `apart` areas behind all others: fills order (rows), and present and bounds of
// the others; returns how many of these have rows, or -1 where a row's area is none.
int64_t brodmann_group(const int64_t* area, int64_t rows, int64_t areas, const int64_t* apart, int64_t many,
                       int64_t* order, int64_t* present, int64_t* bounds) {
  std::vector<int64_t> next(areas, 0);
  for (int64_t row = 0; row < rows; ++row) {
    if (area[row] < 0 || area[row] >= areas) return -1;
    ++next[area[row]];
  }
  for (int64_t k = 0; k < many; ++k) next[apart[k]] *= -1;
  int64_t count = 0, start = 0;
  for (int64_t index = 0; index < areas; ++index) {
    const int64_t here = next[index];
    if (here <= 0) continue;
    next[index] = start;
    present[count] = index;
    bounds[count++] = start;
    start += here;
  }
  bounds[count] = start;
  for (int64_t k = 0; k < many; ++k) {
    const int64_t here = -next[apart[k]];
    next[apart[k]] = start;
    start += here;
  }
  for (int64_t row = 0; row < rows; ++row) order[next[area[row]]++] = row;
  return count;
}

// Whether any row's area has no slot of its own yet: slot 0.
int64_t brodmann_lacks(const int64_t* area, int64_t rows, const int64_t* slots) {
  return std::any_of(area, area + rows, [&](int64_t own) { return slots[own] == 0; });
}

#define BRODMANN_WITHOUT_AREAS(NAME, C) \
  void brodmann_nearest_##NAME(int64_t threads, int64_t rows, int64_t cells, int64_t dimension, const C* u, \
                               const C* prototypes, int64_t* cell) { \
    nearest<C>(int(threads), rows, cells, dimension, u, prototypes, cell); \
  } \
  void brodmann_gate_down_##NAME(int64_t threads, int64_t rows, int64_t cells, int64_t dimension, const C* u, \
                                 const C* prototypes, const int64_t* cell, const C* gate_error, double temperature, \
                                 C* error) { \
    gate_down<C>(int(threads), rows, cells, dimension, u, prototypes, cell, gate_error, C(temperature), error); \
  } \
  void brodmann_norm_##NAME(int64_t threads, int64_t rows, int64_t size, const C* x, double epsilon, C* y, C* scale) { \
    norm<C>(int(threads), rows, size, x, C(epsilon), y, scale); \
  } \
  void brodmann_norm_down_##NAME(int64_t threads, int64_t rows, int64_t size, const C* x, const C* scale, \
                                 const C* error, C* below) { \
    norm_down<C>(int(threads), rows, size, x, scale, error, below); \
  } \
  int64_t brodmann_cross_entropy_##NAME(int64_t rows, int64_t classes, const C* output, const int64_t* target, \
                                        double smoothing, C* error, C* loss) { \
    return cross_entropy<C>(rows, classes, output, target, C(smoothing), error, loss) ? 0 : -1; \
  }

#define BRODMANN_CELLS(NAME, C) \
  void brodmann_lstm_##NAME(int64_t threads, int64_t rows, int64_t units, const C* below, int64_t stride, \
                            const C* before, const C* c_before, C* gates, C* c, C* squashed, C* h) { \
    lstm<C>(int(threads), rows, units, below, stride, before, c_before, gates, c, squashed, h); \
  } \
  void brodmann_lstm_down_##NAME(int64_t threads, int64_t rows, int64_t units, const C* of_h, const C* of_c, \
                                 const C* gates, const C* c_before, const C* squashed, C* of_gates, C* of_before) { \
    lstm_down<C>(int(threads), rows, units, of_h, of_c, gates, c_before, squashed, of_gates, of_before); \
  } \
  void brodmann_gru_##NAME(int64_t threads, int64_t rows, int64_t units, const C* below, int64_t stride, \
                           const C* before, const C* h_before, C* gates, C* h) { \
    gru<C>(int(threads), rows, units, below, stride, before, h_before, gates, h); \
  } \
  void brodmann_gru_down_##NAME(int64_t threads, int64_t rows, int64_t units, const C* of_h, const C* gates, \
                                const C* before, const C* h_before, C* of_below, C* of_before, C* of_h_before) { \
    gru_down<C>(int(threads), rows, units, of_h, gates, before, h_before, of_below, of_before, of_h_before); \
  }

BRODMANN_CELLS(float32, float)
BRODMANN_CELLS(float64, double)
BRODMANN_WITHOUT_AREAS(float32, float)
BRODMANN_WITHOUT_AREAS(float64, double)

#define BRODMANN_GROUPS \
  int64_t threads, int64_t count, const int64_t *present, const int64_t *bounds, const int64_t *order, \
      const int64_t *slots, int64_t inputs, int64_t outputs
#define BRODMANN_TARGET(NAME, C, W) \
  W *NAME##_weight, C *NAME##_first, C *NAME##_second, int64_t *NAME##_steps, double NAME##_lr, double NAME##_decay, \
      int64_t NAME##_seed
#define BRODMANN_GIVEN(NAME, C, W) \
  Target<C, W> { \
    NAME##_weight, NAME##_first, NAME##_second, NAME##_steps, NAME##_lr, NAME##_decay, uint32_t(NAME##_seed) \
  }

#define BRODMANN_OPERATIONS(NAME, C, W) \
  void brodmann_forward_##NAME(BRODMANN_GROUPS, const C* x, const W* weight, const C* bias, const C* beside, C* out, \
                               int64_t relu) { \
    forward(int(threads), {count, present, bounds, order, slots}, inputs, outputs, x, weight, bias, beside, out, \
            relu != 0); \
  } \
  void brodmann_error_##NAME(BRODMANN_GROUPS, const C* delta, const W* weight, C* below, const C* relu) { \
    error(int(threads), {count, present, bounds, order, slots}, inputs, outputs, delta, weight, below, relu); \
  } \
  void brodmann_update_##NAME(BRODMANN_GROUPS, const C* delta, const C* x, int64_t kind, double beta1, double beta2, \
                              double epsilon, BRODMANN_TARGET(first, C, W), BRODMANN_TARGET(second, C, W), \
                              BRODMANN_TARGET(bias, C, C)) { \
    const Groups groups{count, present, bounds, order, slots}; \
    const Rule rule{kind, beta1, beta2, epsilon}; \
    const Moves<C, W> moves(rule, BRODMANN_GIVEN(first, C, W), BRODMANN_GIVEN(second, C, W), groups); \
    if (!x && count) return move_by(int(threads), groups, inputs * outputs, delta, moves); \
    update(int(threads), groups, inputs, outputs, delta, x, moves); \
    if (bias_weight) update_bias<C>(groups, outputs, delta, {rule, BRODMANN_GIVEN(bias, C, C), {}, groups}); \
  }

BRODMANN_OPERATIONS(float32, float, float)
BRODMANN_OPERATIONS(float64, double, double)
BRODMANN_OPERATIONS(bfloat16, float, BFloat16)

}  // extern "C"
