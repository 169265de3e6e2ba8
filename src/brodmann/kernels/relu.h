// ReLU and its derivative, on the part of a result that a thread has just computed: it is still in its core's cache.

#pragma once

#include "groups.h"
#include "shares.h"

namespace {

// Sets what is below 0 to 0: values (N, width).
template <class C>
void rectify(const Groups& groups, const Item& item, int64_t width, C* values) {
  for (int64_t place = groups.bounds[item.group]; place < groups.bounds[item.group + 1]; ++place) {
    C* const row = values + groups.row(place) * width;
    for (int64_t i = item.begin; i < item.end; ++i) row[i] = row[i] < C(0) ? C(0) : row[i];
  }
}

// Sets errors (N, width) to 0 where a ReLU's outputs (N, width) are.
template <class C>
void silence(const Groups& groups, const Item& item, int64_t width, const C* outputs, C* errors) {
  for (int64_t place = groups.bounds[item.group]; place < groups.bounds[item.group + 1]; ++place) {
    const C* const active = outputs + groups.row(place) * width;
    C* const row = errors + groups.row(place) * width;
    for (int64_t i = item.begin; i < item.end; ++i) row[i] = active[i] <= C(0) ? C(0) : row[i];
  }
}

}  // namespace
