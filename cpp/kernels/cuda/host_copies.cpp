#include "kernels/cuda/host_copies.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <system_error>
#include <thread>

#include "kernels/cuda/device_scope.h"

namespace vlt::cuda {
namespace {

constexpr uint64_t kPiece = uint64_t{1} << 20;
// A thread takes some 50 µs to start, in which one that runs copies 0.2 MB; and from 8 on they wait
// for what arrives.
constexpr uint64_t kBytesOfThread = uint64_t{4} << 20;
constexpr uint64_t kMostThreads = 8;

}  // namespace

HostCopies::Lane& HostCopies::lane(size_t index) {
  while (lanes_.size() <= index) {
    auto fresh = std::make_unique<Lane>();
    for (UniqueEvent& arrived : fresh->arrived) arrived = new_event(cudaEventDisableTiming);
    lanes_.push_back(std::move(fresh));
  }
  return *lanes_[index];
}

void HostCopies::work(Lane& lane, Job& job) {
  std::byte* halves = lane.halves.room_for(std::min(job.bytes, 2 * kPiece));
  const auto size_at = [&](uint64_t at) { return std::min(kPiece, job.bytes - at); };
  const auto fetch = [&](uint64_t at, int half) {
    check(cudaMemcpyAsync(halves + half * kPiece, job.from + at, size_at(at),
                          cudaMemcpyDeviceToHost, job.stream),
          "fetching a result");
    check(cudaEventRecord(lane.arrived[half].get(), job.stream), "cudaEventRecord");
  };
  int half = 0;
  uint64_t at = job.next.fetch_add(kPiece);
  if (at < job.bytes) fetch(at, half);
  while (at < job.bytes) {
    const uint64_t following = job.next.fetch_add(kPiece);
    if (following < job.bytes) fetch(following, half ^ 1);
    check(cudaEventSynchronize(lane.arrived[half].get()), "running a batch");
    std::memcpy(job.to + at, halves + half * kPiece, size_at(at));
    at = following;
    half ^= 1;
  }
}

void HostCopies::work_in_thread(int device, Lane& lane, Job& job,
                                std::exception_ptr& failure) noexcept {
  try {
    const DeviceScope scope(device);
    work(lane, job);
  } catch (...) {
    failure = std::current_exception();
  }
}

void HostCopies::copy(void* host, const void* device, uint64_t bytes, cudaStream_t stream) {
  const DeviceScope scope(device_);
  const uint64_t useful = std::clamp<uint64_t>(bytes / kBytesOfThread, 1, kMostThreads);
  const auto count = static_cast<size_t>(std::min<uint64_t>(useful, max_threads_));
  for (size_t i = 0; i < count; ++i) lane(i);

  Job job{static_cast<std::byte*>(host), static_cast<const std::byte*>(device), bytes, stream};
  std::vector<std::exception_ptr> failures(count);
  std::vector<std::thread> threads;
  try {
    for (size_t i = 1; i < count; ++i)
      threads.emplace_back(&HostCopies::work_in_thread, device_, std::ref(*lanes_[i]),
                           std::ref(job), std::ref(failures[i]));
  } catch (const std::system_error&) {
    // no thread to be had: those that run take all pieces
  }
  work_in_thread(device_, *lanes_[0], job, failures[0]);
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

}  // namespace vlt::cuda
