// Time per operation: an observer that measures, and the table it adds up in.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "encoder/observed_operations.h"

namespace vlt {

struct ProfileRow {
  const char* name = "";
  uint64_t calls = 0;
  double seconds = 0;  // of all workers together
  double flops = 0;
};

// Rows in the order the operations first ran.
class Profile {
 public:
  void add(const ProfileRow& measured);
  void add(const Profile& other);
  const std::vector<ProfileRow>& rows() const { return rows_; }

 private:
  std::vector<ProfileRow> rows_;
};

// One per worker. `worker_share` is this worker's part of each operation: 1 when it works alone.
class ProfileObserver final : public Observer {
 public:
  ProfileObserver(Profile& profile, double worker_share)
      : profile_(profile), share_(worker_share) {}
  void before(const Operation&) override { start_ = std::chrono::steady_clock::now(); }
  void after(const Operation& operation) override {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
    profile_.add({operation.name, 1, elapsed.count(), operation.flops * share_});
  }

 private:
  Profile& profile_;
  const double share_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace vlt
