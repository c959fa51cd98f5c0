#pragma once
// LibTorch's header of its process group includes this file of Gloo and uses nothing of it.
