/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container.h -- the spec's keys of an image, and the probes, where they stand across keys. Inside
 * spec/. Pure.
 */
#pragma once

#include "spec/endpoint.h"

/* The image's name, what cannot stand beside one, and what is of an image and is said without. */
[[nodiscard]] int spec_container_check(const struct endpoint_spec *spec, struct err *err);
[[nodiscard]] int spec_probes_check(const struct endpoint_spec *spec, struct err *err);
