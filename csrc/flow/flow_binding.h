// What the bindings of the operators on flow fields share.
#pragma once

#include "core/torch_binding.h"
#include "flow/flow_images.h"

namespace motionops {

// A flow field [B, T, 2, H, W] whose rows lie side by side in memory: `flow` itself wherever that is so.
inline Tensor checked_flow(const char* op, const Tensor& flow) {
  check_floating(op, "flow", flow);
  check_shape(op, "flow", flow, flow.dim() == 5 && flow.size(2) == 2, "[B, T, 2, H, W]");
  return flow.size(4) <= 1 || flow.stride(4) == 1 ? flow : torch::stable::contiguous(flow);
}

inline FlowImages flow_images(const Tensor& flow) {
  return {dtype_of(flow), flow.const_data_ptr(), flow.size(0),   flow.size(1),   flow.size(3),
          flow.size(4),   flow.stride(0),        flow.stride(1), flow.stride(2), flow.stride(3)};
}

}  // namespace motionops
