// One thread asks the run in progress on another to end; a later run never hears of it.
#pragma once

#include <atomic>
#include <cstdint>

namespace vlt {

class StopSignal {
 public:
  // The run that begin() starts is over when the result goes out of scope.
  class Run {
   public:
    explicit Run(StopSignal& signal) : signal_(signal) {
      signal_.state_.store(signal_.next_run_ | kRunning);
    }
    ~Run() {
      signal_.next_run_ += kStep;
      signal_.state_.store(signal_.next_run_);
    }
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;

   private:
    StopSignal& signal_;
  };

  // From any thread. The number of the run is in the state, so the exchange fails where that run
  // has ended meanwhile.
  void request() {
    uint64_t state = state_.load();
    if ((state & kFlags) == kRunning) state_.compare_exchange_strong(state, state | kStopping);
  }
  bool requested() const { return (state_.load() & kStopping) != 0; }

 private:
  static constexpr uint64_t kRunning = 1, kStopping = 2, kFlags = 3, kStep = 4;
  std::atomic<uint64_t> state_{0};
  uint64_t next_run_ = 0;  // of the thread that runs
};

}  // namespace vlt
