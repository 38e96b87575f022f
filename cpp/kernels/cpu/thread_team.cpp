#include "kernels/cpu/thread_team.h"

#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace vlt {
namespace {

// About 50 µs of spinning: longer than the gap between two operations of a forward pass, short
// enough to leave the core to others between requests.
constexpr int kSpins = 2000;

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// Returns once `value` is no longer `old`.
template <typename T>
void wait_while(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause_briefly();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

std::mutex shared_team_mutex;
std::weak_ptr<ThreadTeam> shared_team;

#if defined(__unix__) || defined(__APPLE__)
// fork() copies memory, locks included, but only the calling thread: hold the lock across it.
void before_fork() { shared_team_mutex.lock(); }
void after_fork_in_parent() { shared_team_mutex.unlock(); }
void after_fork_in_child() {
  shared_team_mutex.unlock();
  if (const auto team = shared_team.lock()) team->rebuild_after_fork();
}
void watch_forks() { pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child); }
#else
void watch_forks() {}
#endif

}  // namespace

void Barrier::wait() {
  const uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    phase_.notify_all();
  } else {
    wait_while(phase_, phase);
  }
}

struct ThreadTeam::State {
  std::mutex turn;  // held by whoever runs a job or adds threads
  std::vector<std::thread> threads;

  // A job is published by raising `generation`; each thread answers by lowering `pending`.
  std::atomic<uint32_t> generation{0};
  std::atomic<int> pending{0};
  int num_workers = 0;
  const std::function<void(int)>* body = nullptr;  // null: end the thread
  std::mutex failure_mutex;
  std::exception_ptr failure;

  void call(int worker) noexcept {
    try {
      (*body)(worker);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
  }

  void serve(int worker, uint32_t seen) {
    for (;;) {
      wait_while(generation, seen);
      ++seen;
      if (!body) return;
      if (worker < num_workers) call(worker);
      if (pending.fetch_sub(1, std::memory_order_acq_rel) == 1) pending.notify_all();
    }
  }

  void publish(const std::function<void(int)>* job, int workers) {
    body = job;
    num_workers = workers;
    pending.store(static_cast<int>(threads.size()), std::memory_order_relaxed);
    generation.fetch_add(1, std::memory_order_release);
    generation.notify_all();
  }

  void wait_until_done() {
    for (int left; (left = pending.load(std::memory_order_acquire)) != 0;)
      wait_while(pending, left);
  }

  void add_threads(size_t count) {
    while (threads.size() < count) {
      const int worker = static_cast<int>(threads.size()) + 1;
      const uint32_t seen = generation.load(std::memory_order_relaxed);
      threads.emplace_back([this, worker, seen] { serve(worker, seen); });
    }
  }
};

std::shared_ptr<ThreadTeam> ThreadTeam::shared(int num_workers) {
  static std::once_flag once;
  std::call_once(once, watch_forks);
  std::shared_ptr<ThreadTeam> team;
  {
    const std::lock_guard<std::mutex> lock(shared_team_mutex);
    team = shared_team.lock();
    if (!team) shared_team = team = std::make_shared<ThreadTeam>();
  }
  team->grow(num_workers);
  return team;
}

ThreadTeam::ThreadTeam() : state_(new State) {}

ThreadTeam::~ThreadTeam() {
  state_->publish(nullptr, 0);
  for (std::thread& thread : state_->threads) thread.join();
  delete state_;
}

void ThreadTeam::grow(int num_workers) {
  const std::lock_guard<std::mutex> turn(state_->turn);
  state_->add_threads(static_cast<size_t>(num_workers) - 1);
}

void ThreadTeam::run(int num_workers, const std::function<void(int)>& body) {
  const std::lock_guard<std::mutex> turn(state_->turn);
  state_->failure = nullptr;
  state_->publish(&body, num_workers);
  state_->call(0);
  state_->wait_until_done();
  if (state_->failure) std::rethrow_exception(std::exchange(state_->failure, nullptr));
}

void ThreadTeam::rebuild_after_fork() {
  const size_t count = state_->threads.size();
  // The old state is leaked on purpose: its threads cannot be joined and its locks may be held.
  state_ = new State;
  state_->add_threads(count);
}

}  // namespace vlt
