#include "base/log.h"

#include <atomic>
#include <mutex>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace vlt {
namespace {

struct Listener {
  LogFunction function;
  void* context;
};

std::mutex first_mutex;
// Held during a call, so that a function that was replaced has been left.
std::atomic<std::mutex*> mutex{&first_mutex};
std::atomic<const Listener*> listener{nullptr};  // replaced under the mutex, as a whole
std::atomic<LogLevel> logged{LogLevel::kSilent};

#if defined(__unix__) || defined(__APPLE__)
// In the child of a fork, whoever held the lock may be gone; who forks within a call still has it,
// and gives it back. A parent must not wait for the lock: the call may be waiting for what the thread
// that forks holds, such as an interpreter's lock.
void after_fork_in_child() {
  auto* fresh = new (std::nothrow) std::mutex;
  if (fresh)
    mutex.store(fresh);
  else
    logged.store(LogLevel::kSilent);
}
void watch_forks() { pthread_atfork(nullptr, nullptr, after_fork_in_child); }
#else
void watch_forks() {}
#endif

}  // namespace

bool is_logged(LogLevel level) noexcept { return level <= logged.load(std::memory_order_relaxed); }

void log(LogLevel level, const std::string& message) {
  if (!is_logged(level)) return;
  const std::lock_guard<std::mutex> lock(*mutex.load());
  if (const Listener* l = listener.load())
    l->function(l->context, static_cast<int32_t>(level), message.c_str());
}

void set_log(LogFunction function, void* context, LogLevel level) {
  static std::once_flag once;
  std::call_once(once, watch_forks);
  const Listener* fresh = function ? new Listener{function, context} : nullptr;
  const std::lock_guard<std::mutex> lock(*mutex.load());
  const Listener* old = listener.exchange(fresh);
  logged.store(function ? level : LogLevel::kSilent);
  delete old;
}

}  // namespace vlt
