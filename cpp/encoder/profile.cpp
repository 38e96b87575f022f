#include "encoder/profile.h"

#include <algorithm>
#include <cstring>

namespace vlt {

void Profile::add(const ProfileRow& measured) {
  const auto same_name = [&](const ProfileRow& row) {
    return std::strcmp(row.name, measured.name) == 0;
  };
  const auto row = std::find_if(rows_.begin(), rows_.end(), same_name);
  if (row == rows_.end()) {
    rows_.push_back(measured);
    return;
  }
  row->calls += measured.calls;
  row->seconds += measured.seconds;
  row->flops += measured.flops;
}

void Profile::add(const Profile& other) {
  for (const ProfileRow& row : other.rows_) add(row);
}

}  // namespace vlt
