@echo off
rem Updates the web UI: the project with git, then its environment. The old environment is kept;
rem "update_windows.bat --go-back" restores it, "update_windows.bat --repair" creates the same version again.
setlocal EnableExtensions DisableDelayedExpansion
set "WEBUI_EXCHANGE=1"
set "what=%*"
if not defined what set "what=--update"
call "%~dp0start_windows.bat" %what%
set "code=%errorlevel%"
if "%code%"=="0" if not defined WEBUI_NO_PAUSE pause
exit /b %code%
