// What the library says besides errors, to whoever asked for it.
#pragma once

#include <cstdint>
#include <string>

namespace vlt {

// Values are those of VLT_LOG_* in vlt.h; library_api.cpp asserts that they agree.
enum class LogLevel : int32_t { kSilent = 0, kWarning = 1, kInfo = 2, kDebug = 3 };

using LogFunction = void (*)(void* context, int32_t level, const char* message);

// Whether anybody listens to this level: ask before a message is put together.
bool is_logged(LogLevel level) noexcept;

// Calls the function, one thread at a time. Does nothing where nobody listens.
void log(LogLevel level, const std::string& message);

// Logs what make() returns. A message that there is no memory for is dropped: a call must not fail
// for want of words.
template <typename Make>
void log_what(LogLevel level, const Make& make) noexcept {
  try {
    if (is_logged(level)) log(level, make());
  } catch (...) {
  }
}

// Returns once no thread is in the function that was set before. Null: silence.
void set_log(LogFunction function, void* context, LogLevel level);

}  // namespace vlt
