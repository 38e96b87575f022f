// The border of the library: statuses out of exceptions, structs of any version in and out.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "base/error.h"
#include "vlt.h"

namespace vlt {

const char* last_error();
// Keeps the message for this thread and returns the status; allocates nothing.
vlt_status fail(Status status, const char* message) noexcept;
// Maps the exception in flight.
vlt_status fail_with_current_exception() noexcept;

// Runs body; every exception becomes a status.
template <typename Body>
vlt_status guarded(const Body& body) noexcept {
  try {
    body();
    return VLT_OK;
  } catch (...) {
    return fail_with_current_exception();
  }
}

inline void require(bool condition, const std::string& message) {
  if (!condition) throw Error(Status::kInvalidArgument, message);
}

// No version of any struct will be larger: more is a struct_size that was never set.
inline constexpr uint32_t kLargestStruct = 4096;

// Copies a caller's struct of any size: fields it does not have are zero, and a field that this
// library does not know must be zero. `name` is what messages call it.
template <typename Struct>
Struct read_struct(const Struct* given, const char* name) {
  uint32_t size = 0;
  std::memcpy(&size, given, sizeof(size));
  require(size >= sizeof(uint32_t) && size <= kLargestStruct,
          std::string(name) + ".struct_size is " + std::to_string(size) + "; set it to sizeof(" +
              name + "), here " + std::to_string(sizeof(Struct)));
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (uint32_t i = sizeof(Struct); i < size; ++i)
    require(bytes[i] == 0, std::string(name) +
                               " sets a field that this version of vlt does not know (byte " +
                               std::to_string(i) + "); leave it zero or update vlt");
  Struct known{};
  std::memcpy(&known, given, size < sizeof(Struct) ? size : sizeof(Struct));
  return known;
}

// Writes the part of `result` that the caller's struct has room for, leaving its struct_size;
// fields that only the caller knows become zero.
template <typename Struct>
void write_struct(Struct result, Struct* out, const char* name) {
  require(out != nullptr, std::string(name) + " is NULL; pass a struct to fill");
  uint32_t size = 0;
  std::memcpy(&size, out, sizeof(size));
  require(size >= sizeof(uint32_t) && size <= kLargestStruct,
          std::string(name) + ".struct_size is " + std::to_string(size) + "; set it to sizeof(" +
              name + "), here " + std::to_string(sizeof(Struct)));
  result.struct_size = size;
  std::memcpy(out, &result, size < sizeof(Struct) ? size : sizeof(Struct));
  auto* bytes = reinterpret_cast<unsigned char*>(out);
  if (size > sizeof(Struct)) std::memset(bytes + sizeof(Struct), 0, size - sizeof(Struct));
}

}  // namespace vlt
