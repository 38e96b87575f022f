// What the handles of vlt.h stand for, and what its files share.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "encoder/session.h"
#include "kernels/backend.h"
#include "model/model.h"
#include "vlt.h"

struct vlt_model {
  std::shared_ptr<const vlt::Model> model;
};

struct vlt_session {
  std::unique_ptr<vlt::Session> session;
};

namespace vlt {

// VLT_FLOAT32, … and back.
DType dtype_of(int32_t type);
int32_t type_of(DType dtype);

// What the caller's options and the environment make of this machine's devices. Throws kUnsupported
// where the device asked for is not there.
std::unique_ptr<Backend> choose_backend(const vlt_model_options& options);

// "avx512, avx2": each word between quotes.
std::string joined(const std::vector<std::string>& words, const char* quote);

}  // namespace vlt
