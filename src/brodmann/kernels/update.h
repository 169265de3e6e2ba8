// Update: weights move by their gradient delta^T x, tile by tile, as soon as a tile of it is known. Weights that receive
// the same factors move together: their gradient is computed once.

#pragma once

#include <cmath>
#include <type_traits>

#include "groups.h"
#include "numbers.h"
#include "shares.h"

namespace {

enum Kind : int64_t { kDescent = 0, kMomentum = 1, kAdam = 2 };

struct Rule {
  int64_t kind;
  double beta1, beta2, epsilon;  // beta1 is the momentum of kMomentum
};

// A weight that moves, and the rule's state beside it. Without a weight nothing moves.
template <class C, class W>
struct Target {
  W* weight;
  C *first, *second;
  int64_t* steps;  // of each slot
  double lr, decay;
  uint32_t seed;
};

// Moves `count` neighbouring weights, kVectors vectors at most, from place `at` on; step counts this slot's updates, the
// present one included.
template <class C, class W>
inline void move(const Rule& rule, const Target<C, W>& target, int64_t at, const C* gradient, int64_t count,
                 double step) {
  const C keep = C(1.0 - target.lr * target.decay), lr = C(target.lr), b1 = C(rule.beta1), b2 = C(rule.beta2);
  W* weight = target.weight + at;
  C* first = target.first ? target.first + at : nullptr;
  C* second = target.second ? target.second + at : nullptr;
  C buffer[kVectors * Lanes<C>::count], *next = buffer;
  if constexpr (std::is_same_v<C, W>) next = weight;
  if (rule.kind == kDescent) {
    for (int64_t i = 0; i < count; ++i) next[i] = keep * widen(weight[i]) - lr * gradient[i];
  } else if (rule.kind == kMomentum) {
    for (int64_t i = 0; i < count; ++i) {
      first[i] = b1 * first[i] + gradient[i];
      next[i] = keep * widen(weight[i]) - lr * first[i];
    }
  } else {
    const C size = C(target.lr / (1.0 - std::pow(rule.beta1, step))), epsilon = C(rule.epsilon);
    const C scale = C(1.0 / std::sqrt(1.0 - std::pow(rule.beta2, step)));
    for (int64_t i = 0; i < count; ++i) {
      const C g = gradient[i];
      first[i] += (C(1) - b1) * (g - first[i]);
      second[i] = b2 * second[i] + (C(1) - b2) * g * g;
      next[i] = keep * widen(weight[i]) - size * first[i] / (std::sqrt(second[i]) * scale + epsilon);
    }
  }
  if constexpr (!std::is_same_v<C, W>) round_stochastically(next, weight, count, target.seed, uint32_t(at));
}

// The weights that move together, and the number of each slot's steps with the present one.
template <class C, class W>
struct Moves {
  static constexpr int64_t most = 2;
  Rule rule;
  Target<C, W> targets[most];
  std::vector<double> steps[most];

  Moves(const Rule& rule, const Target<C, W>& first, const Target<C, W>& second, const Groups& groups)
      : rule(rule), targets{first, second} {
    for (int64_t k = 0; k < most; ++k) {
      steps[k].assign(groups.count, 0.0);
      if (!targets[k].weight || !targets[k].steps) continue;
      for (int64_t group = 0; group < groups.count; ++group) {
        steps[k][group] = double(++targets[k].steps[groups.slot(group)]);
      }
    }
  }

  void operator()(int64_t group, int64_t at, const C* gradient, int64_t count) const {
    move(rule, targets[0], at, gradient, count, steps[0][group]);
    if (targets[1].weight) move(rule, targets[1], at, gradient, count, steps[1][group]);
  }
};

// gradient[o][0 .. V vectors) = sum over rows of delta[row][o] x[row][0 .. V vectors) for O outputs.
template <int O, int V, class C, class X>
inline void gradient_tile(const Groups& groups, int64_t begin, int64_t end, int64_t inputs, int64_t outputs,
                          const X* delta, const X* x, C* gradient, int64_t stride) {
  constexpr int64_t lanes = Lanes<C>::count;
  Vector<C> sums[O][V] = {};
  for (int64_t position = begin; position < end; ++position) {
    const int64_t row = groups.row(position);
    const X *from = x + row * inputs, *error = delta + row * outputs;
    decltype(load(from)) value[V];
    for (int v = 0; v < V; ++v) value[v] = load(from + v * lanes);
    for (int o = 0; o < O; ++o) {
      const auto factor = everywhere(error[o]);
      for (int v = 0; v < V; ++v) multiply_add(sums[o][v], factor, value[v]);
    }
  }
  for (int o = 0; o < O; ++o) {
    for (int v = 0; v < V; ++v) std::memcpy(gradient + o * stride + v * lanes, &sums[o][v], sizeof(Vector<C>));
  }
}

template <int O, class C, class X, class W>
inline void update_outputs(const Moves<C, W>& moves, const Groups& groups, int64_t group, int64_t o, int64_t inputs,
                           int64_t outputs, const X* delta, const X* x) {
  constexpr int64_t lanes = Lanes<C>::count, block = kVectors * lanes;
  const int64_t begin = groups.bounds[group], end = groups.bounds[group + 1];
  const int64_t base = (groups.slot(group) * outputs + o) * inputs;
  for (int64_t i = 0; i < inputs;) {
    C gradient[O][block];
    for (int k = 0; k < O; ++k) {  // the next block's weights arrive while this one's gradient is summed
      for (int64_t line = 0; line < block; line += lanes)
        __builtin_prefetch(moves.targets[0].weight + base + k * inputs + i + block + line, 1);
    }
    const int64_t width = inputs - i >= block ? block : inputs - i >= lanes ? lanes : 1;
    if (width == block) {
      gradient_tile<O, kVectors>(groups, begin, end, inputs, outputs, delta + o, x + i, gradient[0], block);
    } else if (width == lanes) {
      gradient_tile<O, 1>(groups, begin, end, inputs, outputs, delta + o, x + i, gradient[0], block);
    } else {
      for (int k = 0; k < O; ++k) {
        C rest = 0;
        for (int64_t position = begin; position < end; ++position) {
          const int64_t row = groups.row(position);
          rest += product(delta[row * outputs + o + k], x[row * inputs + i]);
        }
        gradient[k][0] = rest;
      }
    }
    for (int k = 0; k < O; ++k) moves(group, base + k * inputs + i, gradient[k], width);
    i += width;
  }
}

template <class C, class X, class W>
void update_all(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const X* delta, const X* x,
                const Moves<C, W>& moves) {
  const auto shares = cut(groups, outputs, inputs, [](int64_t) { return kRows; }, threads);
  each(shares, groups.rows() * inputs * outputs, threads, [&](const Item& item) {
    for (int64_t o = item.begin; o < item.end; o += kRows) {
      as_constant<kRows>(item.end - o, [&](auto height) {
        update_outputs<height>(moves, groups, item.group, o, inputs, outputs, delta, x);
      });
    }
  });
}

template <class C, class W>
void update(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const C* delta, const C* x,
            const Moves<C, W>& moves) {
  update_all(threads, groups, inputs, outputs, delta, x, moves);
}

// Biases: as weights on an input that is always one.
template <class C>
void update_bias(const Groups& groups, int64_t outputs, const C* delta, const Moves<C, C>& moves) {
  std::vector<C> gradient(outputs);
  for (int64_t group = 0; group < groups.count; ++group) {
    std::fill(gradient.begin(), gradient.end(), C(0));
    for (int64_t position = groups.bounds[group]; position < groups.bounds[group + 1]; ++position) {
      const C* row = delta + groups.row(position) * outputs;
      for (int64_t o = 0; o < outputs; ++o) gradient[o] += row[o];
    }
    constexpr int64_t most = kVectors * Lanes<C>::count;
    for (int64_t o = 0; o < outputs; o += most) {
      moves(group, groups.slot(group) * outputs + o, gradient.data() + o, std::min(most, outputs - o));
    }
  }
}

}  // namespace
