#include "encoder/session.h"

#include <cstdlib>
#include <cstring>
#include <utility>

#include "encoder/device_session.h"
#include "encoder/host_session.h"

namespace vlt {

std::unique_ptr<Session> create_session(std::shared_ptr<const Model> model,
                                        const SessionOptions& options) {
  if (model->backend().as_device())
    return std::make_unique<DeviceSession>(std::move(model), options);
  return std::make_unique<HostSession>(std::move(model), options);
}

bool poison_requested() {
  const char* value = std::getenv("VLT_POISON_WORKSPACE");
  return value && std::strcmp(value, "1") == 0;
}

}  // namespace vlt
