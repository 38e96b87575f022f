// What a device's kernels and memory throw.
#pragma once

#include <stdexcept>
#include <string>

namespace vlt {

// The device refused or broke: out of memory (what was asked for it stays usable) or anything else
// (it may not).
class DeviceFailure : public std::runtime_error {
 public:
  DeviceFailure(bool is_out_of_memory, const std::string& message)
      : std::runtime_error(message), out_of_memory(is_out_of_memory) {}
  const bool out_of_memory;
};

}  // namespace vlt
