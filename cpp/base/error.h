// The one exception type of the library. It carries the status that the C interface returns.
#pragma once

#include <stdexcept>
#include <string>

namespace vlt {

// Values are those of vlt_status in vlt.h; guard.cpp asserts that they agree.
enum class Status : int {
  kInvalidArgument = 1,
  kOutOfMemory = 2,
  kFileError = 3,
  kUnsupported = 4,
  kDeviceError = 5,
  kInternal = 6,
  kCancelled = 7,
};

class Error : public std::runtime_error {
 public:
  Error(Status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  Status status() const { return status_; }

 private:
  Status status_;
};

}  // namespace vlt
