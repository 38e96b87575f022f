// The CPU as a backend: one instruction set's kernels on the process's thread team.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "kernels/cpu/kernel_table.h"

namespace vlt {

std::unique_ptr<HostBackend> make_cpu_backend(const CpuKernels& kernels);

}  // namespace vlt
