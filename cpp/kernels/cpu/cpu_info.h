// What this process may use of the machine.
#pragma once

#include <string>
#include <vector>

#include "kernels/cpu/kernel_table.h"

namespace vlt {

// Cores in the affinity mask, fewer where a cgroup limits CPU time; at least 1.
int usable_cores();

// An instruction set: its kernels, and the product that a precision of weights takes.
struct InstructionSet {
  const char* name;
  const KernelTable* table;
  const LinearKernel* linear_bfloat16;
  bool supported;           // by this machine
  bool (*ask)() = nullptr;  // what the operating system has to be asked before bfloat16; or null

  // Is it the same as its neighbour but for products of bfloat16?
  bool is_for_bfloat16() const { return linear_bfloat16 != &table->linear_bfloat16; }
};

// Those built into this library, best first.
const std::vector<InstructionSet>& instruction_sets();

}  // namespace vlt
