// The part of the extension barnum._sequences that learning needs.
#pragma once

#include <nanobind/nanobind.h>

void bind_learning(nanobind::module_& module);
