// Every operation of backend.h in plain loops and double precision, on one thread.
//
// It is what the fast kernels are tested against, and what a reader should read first. Results are
// rounded to float32 only where an operation stores them.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace vlt {

std::unique_ptr<HostBackend> make_reference_backend();

}  // namespace vlt
