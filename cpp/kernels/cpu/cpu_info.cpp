#include "kernels/cpu/cpu_info.h"

#include <algorithm>
#include <thread>

#include "kernels/cpu/cpu_quota.h"
#if defined(__x86_64__) && defined(__linux__)
#include "kernels/cpu/amx_support.h"
#endif

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

#if defined(__x86_64__)
namespace {

// The compiler's run-time check includes that the operating system saves the wide registers.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("fma");
}

}  // namespace
#endif

CpuKernels InstructionSet::kernels(DType weights) const {
  if (made_for == weights && made_for != DType::kFloat32)
    return {name, table, linear, linear_int8, attention, weights};
  const bool wide = weights == DType::kFloat32;
  return {table->name,
          table,
          wide ? &table->linear : &table->linear_bfloat16,
          weights == DType::kInt8 ? &table->linear_int8 : nullptr,
          &table->attention,
          weights};
}

const std::vector<InstructionSet>& instruction_sets() {
  static const std::vector<InstructionSet> sets = [] {
    std::vector<InstructionSet> built;
    const auto add = [&](const KernelTable& table, bool supported) {
      built.push_back({table.name, &table, supported});
    };
#if defined(__x86_64__)
    const bool has_pairs = has_avx512() && __builtin_cpu_supports("avx512bf16");
    const bool has_fours = has_avx512() && __builtin_cpu_supports("avx512vnni");
    // On Intel's processors pairs are slower than float32, on which weights that are widened run
    // (BENCHMARKS.md).
    const bool fast_pairs = has_pairs && !__builtin_cpu_is("intel");
    const KernelTable* table = &kAvx512Kernels;
    const InstructionSet pairs = {"avx512_bf16",
                                  table,
                                  has_pairs,
                                  DType::kBFloat16,
                                  &kAvx512Bfloat16Linear,
                                  &kAvx512Bfloat16Attention};
    InstructionSet fours = {"avx512_vnni",
                            table,
                            has_fours,
                            DType::kInt8,
                            &table->linear_bfloat16,
                            &table->attention,
                            &kAvx512VnniLinear};
    if (fast_pairs) fours.linear = pairs.linear, fours.attention = pairs.attention;
#if defined(__linux__)
    const bool has_tiles = has_pairs && has_amx();
    built.push_back({"amx_int8", table, has_tiles, DType::kInt8, &kAmxBfloat16Linear,
                     &kAmxBfloat16Attention, &kAmxInt8Linear, ask_for_amx});
    built.push_back({"amx_bf16", table, has_tiles, DType::kBFloat16, &kAmxBfloat16Linear,
                     &kAmxBfloat16Attention, nullptr, ask_for_amx});
#endif
    built.push_back(fours);
    if (fast_pairs) built.push_back(pairs);
    add(kAvx512Kernels, has_avx512());
    if (!fast_pairs) built.push_back(pairs);
    add(kAvx2Kernels, has_avx2());
#elif defined(__aarch64__)
    add(kNeonKernels, true);  // part of every AArch64
#endif
    add(kPortableKernels, true);
    return built;
  }();
  return sets;
}

}  // namespace vlt
