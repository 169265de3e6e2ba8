// How weights move by a gradient: the update rules.

#pragma once

#include <cmath>
#include <type_traits>
#include <vector>

#include "groups.h"
#include "numbers.h"
#include "prefetch.h"

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

// One target as its rule moves it in one slot.
template <class C, class W>
struct Mover {
  Target<C, W> target;
  C keep, lr, beta1, beta2, epsilon;
  C rest1, rest2;  // 1 - beta, which C would round away
  C size, scale;   // of Adam: rate and root of the second moment, corrected for the start

  // `step` counts the slot's updates, the present one included.
  Mover(const Rule& rule, const Target<C, W>& target, double step)
      : target(target), keep(C(1.0 - target.lr * target.decay)), lr(C(target.lr)), beta1(C(rule.beta1)),
        beta2(C(rule.beta2)), epsilon(C(rule.epsilon)), rest1(C(1.0 - rule.beta1)), rest2(C(1.0 - rule.beta2)),
        size(C(target.lr / (1.0 - std::pow(rule.beta1, step)))),
        scale(C(1.0 / std::sqrt(1.0 - std::pow(rule.beta2, step)))) {}

  // Moves the weights from `at` on by V vectors of their gradient, by the last of them `here` weights alone (V = 1).
  template <Kind kind, int V, class Count>
  __attribute__((always_inline)) void move(int64_t at, const Vector<C> (&gradient)[V], Count here) const {
    W* const weights = anchored(target.weight + at);
    C* const firsts = kind == kDescent ? nullptr : anchored(target.first + at);
    C* const seconds = kind == kAdam ? anchored(target.second + at) : nullptr;
    const Noise noise(target.seed, uint32_t(at));
    UNROLLED for (int v = 0; v < V; ++v) {
      const int64_t i = v * Lanes<C>::count;
      const Vector<C> g = gradient[v], kept = keep * load(weights + i, here);
      const auto put = [&](const Vector<C>& next) __attribute__((always_inline)) {
        if constexpr (std::is_same_v<C, W>) {
          store(next, weights + i, here);
        } else {
          round_stochastically(next, weights + i, here, noise.after(i));
        }
      };
      if constexpr (kind == kDescent) {
        put(kept - lr * g);
      } else if constexpr (kind == kMomentum) {
        const Vector<C> velocity = beta1 * load(firsts + i, here) + g;
        store(velocity, firsts + i, here);
        put(kept - lr * velocity);
      } else {
        const Vector<C> before = load(firsts + i, here), mean = before + rest1 * (g - before);
        const Vector<C> square = beta2 * load(seconds + i, here) + rest2 * g * g;
        store(mean, firsts + i, here);
        store(square, seconds + i, here);
        put(kept - size / (root(square) * scale + epsilon) * mean);
      }
    }
  }
};

// A part of the gradient: `count` neighbours for each of some outputs, which lie `across` apart; those of the weights
// lie `stride` apart.
template <class C>
struct Part {
  const C* gradient;
  int64_t outputs, across, stride, count;
};

// What moves one group's weights by a known rule, in all of its targets.
template <Kind rule, class C, class W>
struct Together {
  static constexpr Kind kind = rule;
  Mover<C, W> movers[2];
  int64_t count;

  // Moves the weights from `at` on by V vectors of their gradient, by the last of them `here` weights alone (V = 1).
  template <int V, class Count>
  __attribute__((always_inline)) void operator()(int64_t at, const Vector<C> (&gradient)[V], Count here) const {
    for (int64_t k = 0; k < count; ++k) movers[k].template move<rule>(at, gradient, here);
  }

  // Moves the weights from `at` on by a part of their gradient that lies in memory.
  void operator()(int64_t at, const Part<C>& part) const {
    constexpr std::integral_constant<int64_t, Lanes<C>::count> lanes;
    const Together move = *this;  // which no store of a weight can change: it stays in registers
    for (int64_t o = 0; o < part.outputs; ++o, at += part.stride) {
      const C* from = part.gradient + o * part.across;
      int64_t i = 0;
      for (; i + lanes <= part.count; i += lanes) move(at + i, {load(from + i)}, lanes);
      if (i < part.count) move(at + i, {load(from + i, part.count - i)}, part.count - i);
    }
  }

  // Calls for the lines of every target in which `numbers` weights from `at` on lie.
  __attribute__((always_inline)) void fetch_weights(int64_t at, int64_t numbers) const {
    for (int64_t k = 0; k < count; ++k) {
      const W* from = anchored(movers[k].target.weight + at);
      UNROLLED for (int64_t i = 0; i < numbers; i += kLine / sizeof(W)) fetch(from + i);
    }
  }
};

// The targets that move together, one Mover for each group.
template <class C, class W>
class Moves {
 public:
  Moves(const Rule& rule, const Target<C, W>& first, const Target<C, W>& second, const Groups& groups)
      : kind(rule.kind) {
    for (const auto& target : {first, second}) {
      if (!target.weight) continue;
      auto& of_groups = movers[count++];
      of_groups.reserve(groups.count);
      for (int64_t group = 0; group < groups.count; ++group) {
        const double step = target.steps ? double(++target.steps[groups.slot(group)]) : 1.0;
        of_groups.emplace_back(rule, target, step);
      }
    }
  }

  // Calls body(move) with what moves the weights of a group.
  template <class Body>
  void of(int64_t group, const Body& body) const {
    if (kind == kDescent) return body(together<kDescent>(group));
    if (kind == kMomentum) return body(together<kMomentum>(group));
    body(together<kAdam>(group));
  }

 private:
  template <Kind rule>
  Together<rule, C, W> together(int64_t group) const {
    return {{movers[0][group], movers[count - 1][group]}, count};
  }

  const int64_t kind;
  std::vector<Mover<C, W>> movers[2];
  int64_t count = 0;
};

}  // namespace
