// What this process may use of the machine.
#pragma once

#include <string>
#include <vector>

#include "kernels/cpu/kernel_table.h"

namespace vlt {

// Cores in the affinity mask, fewer where a cgroup limits CPU time; at least 1.
int usable_cores();

// The tables built into this library, best first, whether or not this machine can run them.
const std::vector<const KernelTable*>& built_kernel_tables();

// Can this machine execute the table's instructions?
bool is_supported(const KernelTable& table);

}  // namespace vlt
