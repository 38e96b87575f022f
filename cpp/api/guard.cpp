#include "api/guard.h"

#include <cstdio>
#include <exception>
#include <new>
#include <system_error>

#include "kernels/device.h"

namespace vlt {
namespace {

static_assert(static_cast<int>(Status::kInvalidArgument) == VLT_INVALID_ARGUMENT);
static_assert(static_cast<int>(Status::kOutOfMemory) == VLT_OUT_OF_MEMORY);
static_assert(static_cast<int>(Status::kFileError) == VLT_FILE_ERROR);
static_assert(static_cast<int>(Status::kUnsupported) == VLT_UNSUPPORTED);
static_assert(static_cast<int>(Status::kDeviceError) == VLT_DEVICE_ERROR);
static_assert(static_cast<int>(Status::kInternal) == VLT_INTERNAL);
static_assert(static_cast<int>(Status::kCancelled) == VLT_CANCELLED);

// A plain array: keeping a message must work when there is no memory.
thread_local char message_of_this_thread[2048] = "no error";

}  // namespace

const char* last_error() { return message_of_this_thread; }

vlt_status fail(Status status, const char* message) noexcept {
  std::snprintf(message_of_this_thread, sizeof(message_of_this_thread), "%s", message);
  return static_cast<vlt_status>(status);
}

vlt_status fail_with_current_exception() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return fail(error.status(), error.what());
  } catch (const DeviceFailure& failure) {
    return fail(failure.out_of_memory ? Status::kOutOfMemory : Status::kDeviceError,
                failure.what());
  } catch (const std::bad_alloc&) {
    return fail(Status::kOutOfMemory, "the system has no memory left for this call");
  } catch (const std::system_error& error) {
    // the only system calls that report this way are those that start threads
    return fail(Status::kOutOfMemory, error.what());
  } catch (const std::exception& error) {
    return fail(Status::kInternal, error.what());
  } catch (...) {
    return fail(Status::kInternal, "unknown exception");
  }
}

}  // namespace vlt
