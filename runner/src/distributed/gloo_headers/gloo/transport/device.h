#pragma once

// What the header of LibTorch's process group needs of Gloo's: names of what it points to.
namespace gloo::transport {

class Device;
class UnboundBuffer;

}  // namespace gloo::transport
