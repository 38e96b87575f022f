#include "base/log.h"

#include <atomic>
#include <mutex>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace vlt {
namespace {

std::atomic<LogLevel> logged{LogLevel::kSilent};
std::mutex mutex;  // held during a call, so that a function that was replaced is left
LogFunction listener = nullptr;
void* listener_context = nullptr;

#if defined(__unix__) || defined(__APPLE__)
// A child must not inherit the lock of a thread that it does not have.
void before_fork() { mutex.lock(); }
void after_fork() { mutex.unlock(); }
void watch_forks() { pthread_atfork(before_fork, after_fork, after_fork); }
#else
void watch_forks() {}
#endif

}  // namespace

bool is_logged(LogLevel level) noexcept { return level <= logged.load(std::memory_order_relaxed); }

void log(LogLevel level, const std::string& message) {
  if (!is_logged(level)) return;
  const std::lock_guard<std::mutex> lock(mutex);
  if (listener) listener(listener_context, static_cast<int32_t>(level), message.c_str());
}

void set_log(LogFunction function, void* context, LogLevel level) {
  static std::once_flag once;
  std::call_once(once, watch_forks);
  const std::lock_guard<std::mutex> lock(mutex);
  listener = function;
  listener_context = context;
  logged.store(function ? level : LogLevel::kSilent);
}

}  // namespace vlt
