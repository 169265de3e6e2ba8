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

  // Moves the first `here` weights from a place on by a vector of their gradient.
  template <Kind kind, class Count>
  void move(int64_t place, const Vector<C>& g, Count here) const {
    W* const weight = target.weight + place;
    if constexpr (kind == kDescent) {
      put(keep * load(weight, here) - lr * g, place, here);
    } else if constexpr (kind == kMomentum) {
      C* const velocity = target.first + place;
      const Vector<C> mean = beta1 * load(velocity, here) + g;
      store(mean, velocity, here);
      put(keep * load(weight, here) - lr * mean, place, here);
    } else {
      C *const first = target.first + place, *const second = target.second + place;
      const Vector<C> before = load(first, here), mean = before + rest1 * (g - before);
      const Vector<C> square = beta2 * load(second, here) + rest2 * g * g;
      store(mean, first, here);
      store(square, second, here);
      put(keep * load(weight, here) - size / (root(square) * scale + epsilon) * mean, place, here);
    }
  }

 private:
  template <class Count>
  void put(const Vector<C>& next, int64_t place, Count here) const {
    if constexpr (std::is_same_v<C, W>) {
      store(next, target.weight + place, here);
    } else {
      round_stochastically(next, target.weight + place, here, target.seed, uint32_t(place));
    }
  }
};

// A part of the gradient: `count` neighbours for each of some outputs, which lie `across` apart; those of the weights
// lie `stride` apart. The gradient can be read up to the end of each output's last vector: what lies beyond `count` is
// not used.
template <class C>
struct Part {
  const C* gradient;
  int64_t outputs, across, stride, count;

  // Calls body(place, gradient, here) for every vector: `here` numbers from that place on.
  template <class Body>
  void each_vector(int64_t at, const Body& body) const {
    constexpr std::integral_constant<int64_t, Lanes<C>::count> lanes;
    for (int64_t o = 0; o < outputs; ++o, at += stride) {
      const C* from = gradient + o * across;
      int64_t i = 0;
      for (; i + lanes <= count; i += lanes) body(at + i, load(from + i), lanes);
      if (i < count) body(at + i, load(from + i), count - i);
    }
  }
};

// The targets that move together, one Mover for each group.
template <class C, class W>
struct Moves {
  const int64_t kind;
  std::vector<Mover<C, W>> movers[2];

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

  const W* weight() const { return movers[0][0].target.weight; }

  // Calls for the line of every target's weights in which a place lies.
  void fetch_weights(int64_t place) const {
    for (int64_t k = 0; k < count; ++k) fetch(movers[k][0].target.weight + place);
  }

  // Calls body(move) for every target of a group; move(place, gradient, here) moves `here` weights from a place on.
  template <class Body>
  __attribute__((always_inline)) void each(int64_t group, const Body& body) const {
    if (kind == kDescent) return each_by<kDescent>(group, body);
    if (kind == kMomentum) return each_by<kMomentum>(group, body);
    each_by<kAdam>(group, body);
  }

  // The same where the rule is known.
  template <Kind rule, class Body>
  __attribute__((always_inline)) void each_by(int64_t group, const Body& body) const {
    for (int64_t k = 0; k < count; ++k) {
      const Mover<C, W> by = movers[k][group];  // a copy, which no store can change: it stays in registers
      body([&by](int64_t place, const Vector<C>& g, auto here) __attribute__((always_inline)) {
        by.template move<rule>(place, g, here);
      });
    }
  }

  // Moves the weights of a group by a part of their gradient that lies in memory.
  void operator()(int64_t group, int64_t at, const Part<C>& part) const {
    each(group, [&](const auto& move) { part.each_vector(at, move); });
  }

 private:
  int64_t count = 0;
};

}  // namespace
