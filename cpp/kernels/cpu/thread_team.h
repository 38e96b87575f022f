// A team of threads that run one job at a time together, and the barrier inside such a job.
//
// Why not OpenMP: two OpenMP runtimes in one process (PyTorch brings its own) oversubscribe the
// cores and clash at load. This team spins briefly between jobs, then sleeps.
#pragma once

#include <atomic>
#include <cstdint>
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
  // The process's team, grown to at least num_workers; it lives as long as someone holds it. All
  // runs on several workers share its threads, so sessions do not oversubscribe the cores.
  static std::shared_ptr<ThreadTeam> shared(int num_workers);

  ThreadTeam();
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  // Starts threads until there are num_workers, the caller of run() counted. Throws
  // std::system_error when the system refuses one.
  void grow(int num_workers);

  // Calls body(0 … num_workers - 1), body(0) on the calling thread; returns when all have returned.
  // The first exception is rethrown. Threads beyond num_workers sleep on. While other runs have
  // the turn it waits, and gives up without a call once stop_requested() says so.
  void run(int num_workers, const std::function<bool()>& stop_requested,
           const std::function<void(int)>& body);

  // In the child of a fork, where only the calling thread lives on: the next use starts threads
  // anew. Until then a child that never runs a model costs nothing.
  void abandon_threads() noexcept { abandoned_.store(true); }

 private:
  struct State;
  State& state();

  std::atomic<State*> state_;
  std::atomic<bool> abandoned_{false};
};

}  // namespace vlt
