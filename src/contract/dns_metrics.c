/* SPDX-License-Identifier: Apache-2.0 */
#include "contract/dns_metrics.h"

METRICS_DEFINE(dns_metrics, DNS_METRICS)
