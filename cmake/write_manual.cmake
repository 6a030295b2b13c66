# Runs COMMAND (the dla program, behind an emulator where needed) for its man pages and completion scripts; FOLDER gets
# man1/dla.1, man1/dla-NAME.1, bash/dla, zsh/_dla, and `done` as the last.
function(write_output path)   # further arguments: those of `dla help`
  execute_process(COMMAND ${COMMAND} help ${ARGN} OUTPUT_FILE ${path} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "dla help ${ARGN} ended with ${result}")
  endif()
endfunction()

file(REMOVE_RECURSE ${FOLDER})
file(MAKE_DIRECTORY ${FOLDER}/man1 ${FOLDER}/bash ${FOLDER}/zsh)
execute_process(COMMAND ${COMMAND} help --commands OUTPUT_VARIABLE names OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "dla help --commands ended with ${result}")
endif()
string(REPLACE "\n" ";" names "${names}")
write_output(${FOLDER}/man1/dla.1 --man)
foreach(name ${names})
  write_output(${FOLDER}/man1/dla-${name}.1 --man ${name})
endforeach()
write_output(${FOLDER}/bash/dla --completion bash)
write_output(${FOLDER}/zsh/_dla --completion zsh)
file(WRITE ${FOLDER}/done "")
