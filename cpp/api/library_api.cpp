// vlt.h, the library itself: its version, the latest failure, the log. Like its neighbours it checks
// arguments, translates structs and calls the library; nothing throws here.
#include <string>

#include "api/guard.h"
#include "api/handles.h"
#include "base/log.h"
#include "kernels/registry.h"
#include "vlt.h"

namespace {

using vlt::LogLevel;
using vlt::require;

std::string build_info() {
#if defined(__clang__)
  const std::string compiler = "clang " __clang_version__;
#else
  const std::string compiler = "gcc " __VERSION__;
#endif
  return "{\"version\": \"" VLT_VERSION "\", \"compiler\": \"" + compiler +
         "\", \"instruction_sets\": [" + vlt::joined(vlt::cpu_backend_names(), "\"") +
         "], \"cuda_architectures\": [" + vlt::joined(vlt::cuda_architectures(), "\"") + "]}";
}

}  // namespace

int32_t vlt_abi_version(void) { return VLT_ABI_VERSION; }

const char* vlt_build_info(void) {
  try {
    static const std::string info = build_info();
    return info.c_str();
  } catch (...) {
    return "{}";  // no memory for the text; the next call may have some
  }
}

const char* vlt_last_error(void) { return vlt::last_error(); }

vlt_status vlt_set_log(vlt_log_function function, void* context, int32_t level) {
  static_assert(VLT_LOG_WARNING == static_cast<int>(LogLevel::kWarning));
  static_assert(VLT_LOG_INFO == static_cast<int>(LogLevel::kInfo));
  static_assert(VLT_LOG_DEBUG == static_cast<int>(LogLevel::kDebug));
  return vlt::guarded([&] {
    require(!function || (level >= VLT_LOG_WARNING && level <= VLT_LOG_DEBUG),
            "level is " + std::to_string(level) + "; it must be a VLT_LOG_*");
    vlt::set_log(function, context, static_cast<LogLevel>(level));
  });
}
