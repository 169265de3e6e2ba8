// ReLU and its derivative, on the part of a result that a thread has just computed: it is still in its core's cache.

#pragma once

#include "groups.h"
#include "shares.h"

namespace {

// Sets what is below 0 to 0: values (N, width).
template <class C>
void rectify(const Groups& groups, const Item& item, int64_t width, C* values) {
  each_row_of(groups, item.group, [&](int64_t row) {
    C* const value = values + row * width;
    for (int64_t i = item.begin; i < item.end; ++i) value[i] = value[i] < C(0) ? C(0) : value[i];
  });
}

// Sets errors (N, width) to 0 where a ReLU's outputs (N, width) are.
template <class C>
void silence(const Groups& groups, const Item& item, int64_t width, const C* outputs, C* errors) {
  each_row_of(groups, item.group, [&](int64_t row) {
    const C* const active = outputs + row * width;
    C* const error = errors + row * width;
    for (int64_t i = item.begin; i < item.end; ++i) error[i] = active[i] <= C(0) ? C(0) : error[i];
  });
}

}  // namespace
