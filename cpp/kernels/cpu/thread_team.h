// A team of threads that run one job at a time together, and the barrier inside such a job.
//
// Why not OpenMP: two OpenMP runtimes in one process (PyTorch brings its own) oversubscribe the
// cores and clash at load. This team spins briefly between jobs, then sleeps.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

namespace vlt {

// Workers of one job meet here; every worker must call wait() the same number of times.
class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}
  void wait();

 private:
  const int size_;
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> phase_{0};
};

// Thread safety: run() may be called from any thread; calls take turns.
class ThreadTeam {
 public:
  // The process's team, grown to at least num_workers. It lives as long as someone holds it, so
  // several sessions never run more threads than the largest of them asked for.
  static std::shared_ptr<ThreadTeam> shared(int num_workers);

  ThreadTeam();
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  // Starts threads until there are num_workers, the caller of run() counted. Throws
  // std::system_error when the system refuses one.
  void grow(int num_workers);

  // Calls body(0 … num_workers - 1), body(0) on the calling thread; returns when all have returned.
  // The first exception is rethrown. num_workers is at most what grow() was given.
  void run(int num_workers, const std::function<void(int)>& body);

  // Threads do not survive a fork: the child starts with a new, empty team of the same size.
  void rebuild_after_fork();

 private:
  struct State;
  State* state_;
};

}  // namespace vlt
