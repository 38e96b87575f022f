// Time per operation: an observer that measures, and the table it adds up in.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "encoder/observed_operations.h"

namespace vlt {

struct ProfileRow {
  const char* name = "";
  uint64_t calls = 0;
  double seconds = 0;  // of all workers together
  double flops = 0;
};

// Rows in the order the operations first ran. Allocates nothing: workers add to it.
class Profile {
 public:
  void add(const ProfileRow& measured);
  void add(const Profile& other);
  const ProfileRow* begin() const { return rows_.data(); }
  const ProfileRow* end() const { return rows_.data() + num_rows_; }
  size_t size() const { return num_rows_; }

 private:
  std::array<ProfileRow, 16> rows_;  // twice as many as there are names
  size_t num_rows_ = 0;
};

// One per worker; of workers that share operations, one counts calls and products for all.
class ProfileObserver final : public Observer {
 public:
  ProfileObserver(Profile& profile, bool counts) : profile_(profile), counts_(counts) {}
  void before(const Operation&) override { start_ = std::chrono::steady_clock::now(); }
  void after(const Operation& operation) override {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
    profile_.add({operation.name, counts_ ? uint64_t{1} : uint64_t{0}, elapsed.count(),
                  counts_ ? operation.flops : 0.0});
  }

 private:
  Profile& profile_;
  const bool counts_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace vlt
