// What RBD knows of a pool: its images by name, its namespaces, metadata and settings.
#pragma once
#include "rados/ioctx.h"

namespace cephkit {

void InitPool(Exports& exports);

}  // namespace cephkit
