#include "kernels/cpu/cpu_info.h"

#include <algorithm>
#include <thread>

#include "kernels/cpu/cpu_quota.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace vlt {
namespace {

int cores_in_affinity_mask() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace

int usable_cores() {
  int cores = cores_in_affinity_mask();
  if (const int quota = cores_in_cgroup_quota(); quota > 0) cores = std::min(cores, quota);
  return std::max(cores, 1);
}

const std::vector<const KernelTable*>& built_kernel_tables() {
  static const std::vector<const KernelTable*> tables = {
#if defined(__x86_64__)
    &kAvx512Kernels,
    &kAvx2Kernels,
#elif defined(__aarch64__)
    &kNeonKernels,
#endif
    &kPortableKernels
  };
  return tables;
}

bool is_supported(const KernelTable& table) {
#if defined(__x86_64__)
  // The compiler's run-time check includes that the operating system saves the wide registers.
  if (&table == &kAvx512Kernels)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("fma");
  if (&table == &kAvx2Kernels)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(__aarch64__)
  if (&table == &kNeonKernels) return true;  // part of every AArch64
#endif
  return &table == &kPortableKernels;
}

}  // namespace vlt
