// RADOS objects, by compound operations: each a list of steps that the OSD does in order, all or none.
//
// JavaScript describes a step as an array, its name first: ['create', true], ['setOmap', [['key',
// <Buffer>]]].
#pragma once
#include "rados/ioctx.h"

namespace cephkit {

void InitObject(Exports& exports);

}  // namespace cephkit
