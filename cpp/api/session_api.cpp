// vlt.h: sessions.
#include <algorithm>
#include <string>

#include "api/guard.h"
#include "api/handles.h"
#include "base/log.h"
#include "kernels/cpu/cpu_info.h"
#include "vlt.h"

namespace {

using vlt::LogLevel;
using vlt::require;

constexpr int kMaxThreads = 1024;

void log_session(const vlt::SessionOptions& options) {
  if (!vlt::is_logged(LogLevel::kWarning)) return;
  const std::string threads = std::to_string(options.num_workers);
  const std::string limit =
      options.workspace_limit > 0
          ? ", at most " + std::to_string(options.workspace_limit) + " bytes of workspace"
          : "";
  vlt::log(LogLevel::kInfo, "session of " + threads + " threads" + limit);
  if (const int cores = vlt::usable_cores(); options.num_workers > cores)
    vlt::log(LogLevel::kWarning, "num_threads is " + threads + ", but this process may use " +
                                     std::to_string(cores) +
                                     " cores: threads will wait for each other");
  if (vlt::poison_requested())
    vlt::log(LogLevel::kWarning, "VLT_POISON_WORKSPACE is set: runs are slow, to find faults");
}

void check_size(int64_t num_tokens, int32_t num_sequences, int32_t max_length) {
  const auto check = [](const char* name, int64_t value) {
    require(value >= 0 && value <= INT32_MAX,
            std::string(name) + " is " + std::to_string(value) + "; it must be 0 … 2147483647");
  };
  check("num_tokens", num_tokens);
  check("num_sequences", num_sequences);
  check("max_length", max_length);
}

}  // namespace

vlt_status vlt_session_create(vlt_model* model, const vlt_session_options* options,
                              vlt_session** out_session) {
  return vlt::guarded([&] {
    require(model != nullptr, "model is NULL");
    require(out_session != nullptr, "out_session is NULL; pass where to store the session");
    vlt_session_options known{};
    if (options) known = vlt::read_struct(options, "vlt_session_options");
    require(known.num_threads >= 0 && known.num_threads <= kMaxThreads,
            "num_threads is " + std::to_string(known.num_threads) + "; it must be 0 … " +
                std::to_string(kMaxThreads));
    require(known.profile == 0 || known.profile == 1,
            "profile is " + std::to_string(known.profile) + "; it must be 0 or 1");
    vlt::SessionOptions session_options;
    session_options.num_workers = known.num_threads > 0 ? known.num_threads : vlt::usable_cores();
    session_options.workspace_limit = known.workspace_limit;
    session_options.profile = known.profile == 1;
    require(known.disable_graphs == 0 || known.disable_graphs == 1,
            "disable_graphs is " + std::to_string(known.disable_graphs) + "; it must be 0 or 1");
    session_options.record = known.disable_graphs == 0;
    if (known.allocator) {
      require(!model->model->backend().as_device(),
              "vlt_session_options.allocator is set, but the model is on a CUDA device; workspaces "
              "there come from the driver");
      const auto allocator = vlt::read_struct(known.allocator, "vlt_allocator");
      require(allocator.allocate && allocator.release,
              "vlt_allocator.allocate or .release is NULL; set both");
      session_options.callbacks = {allocator.allocate, allocator.release, allocator.context};
    }
    log_session(session_options);  // first: a failure in it loses nothing
    *out_session = new vlt_session{vlt::create_session(model->model, session_options)};
  });
}

void vlt_session_free(vlt_session* session) { delete session; }

vlt_status vlt_session_cancel(vlt_session* session) {
  return vlt::guarded([&] {
    require(session != nullptr, "session is NULL");
    session->session->request_stop();
  });
}

vlt_status vlt_session_workspace_bytes(const vlt_session* session, int64_t num_tokens,
                                       int32_t num_sequences, int32_t max_length,
                                       uint64_t* out_bytes) {
  return vlt::guarded([&] {
    require(session != nullptr, "session is NULL");
    require(out_bytes != nullptr, "out_bytes is NULL; pass where to store the size");
    check_size(num_tokens, num_sequences, max_length);
    *out_bytes = session->session->workspace_bytes(num_tokens, num_sequences, max_length);
  });
}

vlt_status vlt_session_reserve(vlt_session* session, int64_t num_tokens, int32_t num_sequences,
                               int32_t max_length) {
  return vlt::guarded([&] {
    require(session != nullptr, "session is NULL");
    check_size(num_tokens, num_sequences, max_length);
    session->session->reserve(num_tokens, num_sequences, max_length);
  });
}

vlt_status vlt_session_get_memory_stats(const vlt_session* session, vlt_memory_stats* stats) {
  return vlt::guarded([&] {
    require(session != nullptr, "session is NULL");
    const vlt::SessionStats& s = session->session->stats();
    vlt_memory_stats result{};
    result.planned_peak_bytes = s.planned_peak_bytes;
    result.held_bytes = s.memory.held_bytes;
    result.peak_held_bytes = s.memory.peak_held_bytes;
    result.system_allocations = s.memory.system_allocations;
    result.releases = s.memory.releases;
    result.runs = s.runs;
    result.parts = s.parts;
    result.planning_seconds = s.planning_seconds;
    result.graphs = s.recordings;
    vlt::write_struct(result, stats, "vlt_memory_stats");
  });
}

vlt_status vlt_session_get_profile(const vlt_session* session, vlt_profile_entry* entries,
                                   int32_t* count) {
  return vlt::guarded([&] {
    require(session != nullptr, "session is NULL");
    require(count != nullptr, "count is NULL; pass the capacity of entries");
    const vlt::Profile& profile = session->session->profile();
    auto written = static_cast<int32_t>(profile.size());
    if (entries) {
      require(*count >= 0, "count is " + std::to_string(*count) + "; it must be 0 or more");
      written = std::min(written, *count);
      for (int32_t i = 0; i < written; ++i) {
        const vlt::ProfileRow& row = profile.begin()[i];
        entries[i] = {row.name, row.calls, row.seconds / session->session->num_workers(),
                      row.flops};
      }
    }
    *count = written;
  });
}
