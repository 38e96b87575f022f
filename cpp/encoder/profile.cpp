#include "encoder/profile.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace vlt {

void Profile::add(const ProfileRow& measured) {
  const auto end = rows_.begin() + static_cast<std::ptrdiff_t>(num_rows_);
  const auto row = std::find_if(rows_.begin(), end, [&](const ProfileRow& r) {
    return std::strcmp(r.name, measured.name) == 0;
  });
  if (row == end) {
    assert(num_rows_ < rows_.size());
    rows_[num_rows_++] = measured;
    return;
  }
  row->calls += measured.calls;
  row->seconds += measured.seconds;
  row->flops += measured.flops;
}

void Profile::add(const Profile& other) {
  for (const ProfileRow& row : other) add(row);
}

}  // namespace vlt
