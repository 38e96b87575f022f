#include "kernels/cpu/thread_team.h"

#include <chrono>
#include <condition_variable>
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
#include <signal.h>
#endif

namespace vlt {
namespace {

// About 50 µs of spinning: longer than the gap between two operations of a forward pass, short
// enough to leave the core to others between requests.
constexpr int kSpins = 2000;

// How often a run that waits for its turn looks whether it is still wanted.
constexpr std::chrono::milliseconds kTurnPatience{5};

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");  // waits about as long as x86's pause; AArch64's yield does nothing
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
  if (const auto team = shared_team.lock()) team->abandon_threads();
}
void watch_forks() { pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child); }

// Threads started in its scope take no signal that is sent to the process: a program's handlers run
// on the program's threads. What a thread does wrong itself has to reach it: were it blocked, it would
// end the process past any handler.
class NoSignals {
 public:
  NoSignals() {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT})
      sigdelset(&all, fault);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  sigset_t before_;
};
#else
void watch_forks() {}
struct NoSignals {};
#endif

// Whoever holds it may run a job or add threads. Waiting for it can be given up.
class Turn {
 public:
  // False, and not taken, once give_up() says so.
  bool take(const std::function<bool()>& give_up) {
    std::unique_lock<std::mutex> lock(mutex_);
    while (taken_) {
      if (give_up && give_up()) return false;
      changed_.wait_for(lock, kTurnPatience);
    }
    taken_ = true;
    return true;
  }

  void give_back() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      taken_ = false;
    }
    changed_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool taken_ = false;
};

// Gives a turn back at the end of a scope.
struct TurnHolder {
  Turn& turn;
  ~TurnHolder() { turn.give_back(); }
};

}  // namespace

void Barrier::wait() {
  const uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    arrived_.store(0, std::memory_order_relaxed);
    // A read-modify-write: after a plain store, notify_all() might still see no sleeper.
    phase_.fetch_add(1, std::memory_order_seq_cst);
    phase_.notify_all();
  } else {
    wait_while(phase_, phase);
  }
}

struct ThreadTeam::State {
  // A thread sleeps until its own counter rises, so that only those of a job wake up.
  struct Member {
    std::atomic<uint32_t> jobs{0};
    std::thread thread;
  };

  Turn turn;
  std::vector<std::unique_ptr<Member>> members;
  std::atomic<int> pending{0};                     // members that have not finished the job
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

  void serve(int worker, const std::atomic<uint32_t>& jobs) {
    for (uint32_t seen = 0;; ++seen) {
      wait_while(jobs, seen);
      if (!body) return;
      call(worker);
      if (pending.fetch_sub(1, std::memory_order_acq_rel) == 1) pending.notify_all();
    }
  }

  void publish(const std::function<void(int)>* job, size_t num_members) {
    body = job;
    pending.store(static_cast<int>(num_members), std::memory_order_relaxed);
    for (size_t i = 0; i < num_members; ++i) {
      members[i]->jobs.fetch_add(1, std::memory_order_seq_cst);
      members[i]->jobs.notify_all();
    }
  }

  void wait_until_done() {
    for (int left; (left = pending.load(std::memory_order_acquire)) != 0;)
      wait_while(pending, left);
  }

  void add_members(size_t count) {
    [[maybe_unused]] const NoSignals no_signals;
    while (members.size() < count) {
      auto member = std::make_unique<Member>();
      const int worker = static_cast<int>(members.size()) + 1;
      const std::atomic<uint32_t>& jobs = member->jobs;
      members.reserve(count);  // so that a started thread is always kept
      member->thread = std::thread([this, worker, &jobs] { serve(worker, jobs); });
      members.push_back(std::move(member));
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
  State* state = state_.load();
  if (abandoned_.load()) return;  // its threads are gone and cannot be joined: leaked on purpose
  state->publish(nullptr, state->members.size());
  for (const auto& member : state->members) member->thread.join();
  delete state;
}

// The state to use; a new one after a fork, where the old one's locks may be held for ever.
ThreadTeam::State& ThreadTeam::state() {
  if (abandoned_.load()) {
    const std::lock_guard<std::mutex> lock(shared_team_mutex);
    if (abandoned_.load()) {
      auto fresh = std::make_unique<State>();
      fresh->add_members(state_.load()->members.size());
      state_.store(fresh.release());
      abandoned_.store(false);
    }
  }
  return *state_.load();
}

void ThreadTeam::grow(int num_workers) {
  State& team = state();
  team.turn.take(nullptr);
  const TurnHolder holder{team.turn};
  team.add_members(static_cast<size_t>(num_workers) - 1);
}

void ThreadTeam::run(int num_workers, const std::function<bool()>& stop_requested,
                     const std::function<void(int)>& body) {
  State& team = state();
  if (!team.turn.take(stop_requested)) return;
  const TurnHolder holder{team.turn};
  team.failure = nullptr;
  team.publish(&body, static_cast<size_t>(num_workers) - 1);
  team.call(0);
  team.wait_until_done();
  if (team.failure) std::rethrow_exception(std::exchange(team.failure, nullptr));
}

}  // namespace vlt
