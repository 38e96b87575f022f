// What this process may use of the machine.
#pragma once

#include <string>
#include <vector>

#include "kernels/cpu/kernel_table.h"

namespace vlt {

// Cores in the affinity mask, fewer where a cgroup limits CPU time; at least 1.
int usable_cores();

// An instruction set: its kernels, and what it has besides for weights of one type.
struct InstructionSet {
  const char* name;
  const KernelTable* table;
  bool supported;  // by this machine
  // Of float32 the table has all there is, and something for any other type.
  DType made_for = DType::kFloat32;
  const LinearKernel* linear = nullptr;  // for weights of bfloat16, beside int8 too
  const AttentionKernel* attention = nullptr;
  const LinearKernel* linear_int8 = nullptr;  // where made_for is kInt8
  bool (*ask)() = nullptr;  // what the operating system has to be asked before these; or null

  bool is_for(DType weights) const { return made_for == weights || made_for == DType::kFloat32; }
  CpuKernels kernels(DType weights) const;
};

// Those built into this library, best first.
const std::vector<InstructionSet>& instruction_sets();

}  // namespace vlt
